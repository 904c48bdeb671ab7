"""Larger voxels and thicker slices against torch, scikit-image, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.ndimage import uniform_filter1d
from skimage.transform import downscale_local_mean
from torch.nn.functional import interpolate

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators import (
    Separable,
    SVDOperator,
    area_average,
    area_matrix,
    average_matrix,
    average_pool,
    bicubic,
    bicubic_matrix,
    linear_matrix,
    resampled,
    slice_matrix,
    thick_slices,
)
from invdiff.operators.resample import CUMULATIVE
from invdiff.space import Space

PLANE = Space((1, 30, 24), torch.float64)
BLOCK = Space((1, 9, 8, 20), torch.float64)


def image(space, rows=1):
    return torch.randn((rows, *space.shape), generator=torch.Generator().manual_seed(6), dtype=space.dtype)


MATRICES = {
    "average": average_matrix(11, 3),
    "area": area_matrix(11, 2.7),
    "area of all": area_matrix(11, 11),
    "bicubic": bicubic_matrix(11, 2.7),
    "linear": linear_matrix(11, 27),
    "box": slice_matrix(11, 3, 2),
    "gaussian": slice_matrix(11, 3.3, 2, "gaussian"),
    "smooth": slice_matrix(11, 3, 2.5, "smooth"),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_constant_image_stays_constant(name):
    M = MATRICES[name]
    torch.testing.assert_close(M.sum(1), torch.ones(len(M)).double())


@pytest.mark.parametrize(("n", "factor"), [(12, 3), (13, 3), (7, 7), (8, 1), (300, 7)])
def test_areas_of_whole_voxels_are_block_means(n, factor):
    torch.testing.assert_close(area_matrix(n, factor), average_matrix(n, factor))


def test_areas_are_scikit_images():
    x = image(PLANE)
    want = downscale_local_mean(x[0, 0].numpy(), (5, 3))
    np.testing.assert_allclose(area_average(PLANE, (5, 3))(x)[0, 0].numpy(), want, atol=1e-12)


@pytest.mark.parametrize(("n", "ratio"), [(20, 1.6), (20, 2.5), (17, 1.0), (50, math.pi), (9, 4.5)])
def test_partial_volume_of_a_ramp(n, ratio):
    """A coarse voxel of a piecewise constant ramp holds the ramp's mean over it, counted fine voxel by fine voxel."""
    M = area_matrix(n, ratio)
    for i in range(len(M)):
        a, b = i * ratio, min((i + 1) * ratio, n)
        want = quad(lambda t: math.floor(min(t, n - 1e-9)), a, b, points=list(range(math.ceil(a), int(b) + 1)))[0]
        assert float(M[i] @ torch.arange(n).double()) == pytest.approx(want / (b - a), abs=1e-9)


@pytest.mark.parametrize("n", [7, 10, 49, 144, 333])
def test_as_many_coarse_voxels_as_asked(n):
    for m in range(1, n + 1):
        M = area_matrix(n, n / m)
        assert M.shape == (m, n)
        torch.testing.assert_close(M.sum(0), torch.full((n,), m / n).double()), "the field of view is kept"


@pytest.mark.parametrize(("n", "m"), [(24, 12), (24, 8), (30, 7), (30, 29), (30, 30), (31, 5)])
def test_bicubic_is_torchs(n, m):
    x = image(Space((1, n, 24), torch.float64), 2)
    want = interpolate(x, size=(m, 9), mode="bicubic", antialias=True, align_corners=False)
    got = bicubic(Space((1, n, 24), torch.float64), (n / m, 24 / 9))(x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n", "m"), [(24, 48), (24, 25), (7, 30), (1, 5), (31, 31)])
def test_linear_is_torchs(n, m):
    x = image(Space((1, n, 24), torch.float64), 2)
    want = interpolate(x, size=(m, 24), mode="bilinear", align_corners=False)
    got = torch.einsum("mn,bcnw->bcmw", linear_matrix(n, m), x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6, 12, 13, 17, 24, 30])
def test_a_ramp_in_mm_stays_one_on_other_voxels(m):
    """Twelve voxels of 1 mm: exact for whole numbers of parts and where voxels become smaller, between the centres."""
    out = resampled(Space((1, 12), torch.float64), (m,))((torch.arange(12) + 0.5).double()[None, None])[0, 0]
    centres = (torch.arange(m) + 0.5).double() * 12 / m
    torch.testing.assert_close(out, centres.clamp(0.5, 11.5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("m", [5, 7, 11])
def test_parts_of_voxels_bend_a_ramp_by_less_than_an_eighth_of_one(m):
    """A voxel that is cut counts as if its part had the value of its centre: f (1 - f) / 2 at either end."""
    out = resampled(Space((1, 12), torch.float64), (m,))((torch.arange(12) + 0.5).double()[None, None])[0, 0]
    ratio = 12 / m
    start, stop = torch.arange(m).double() * ratio, (torch.arange(m) + 1).double() * ratio
    bend = [(t - t.floor()) * (1 - (t - t.floor())) / 2 for t in (start, stop)]
    torch.testing.assert_close(out, (start + stop) / 2 + (bend[1] - bend[0]) / ratio, rtol=0, atol=1e-9)


def test_the_same_voxels_are_left_alone():
    x = image(BLOCK)
    assert torch.equal(resampled(BLOCK, BLOCK.shape[1:])(x), x)


@pytest.mark.parametrize("sizes", [(9, 16, 4), (5, 8, 33), (18, 3, 20)])
def test_other_voxels_are_a_matrix_per_axis(sizes):
    """Against each axis' matrix, written out."""
    R, x = resampled(BLOCK, sizes), image(BLOCK, 2)
    per_axis = [
        linear_matrix(n, m) if m >= n else area_matrix(n, n / m) for n, m in zip(BLOCK.shape[1:], sizes, strict=True)
    ]
    want = torch.einsum("ai,bj,dk,nxijk->nxabd", *per_axis, x)
    torch.testing.assert_close(R(x), want, rtol=0, atol=1e-12)
    assert R.range.shape == (1, *sizes)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_thick_slices_are_a_moving_mean_decimated(factor):
    x = image(BLOCK)
    smooth = uniform_filter1d(x[0, 0].numpy(), factor, axis=2, mode="reflect")
    want = smooth[:, :, factor // 2 :: factor][:, :, : 20 // factor]
    got = thick_slices(BLOCK, 2, factor, factor)(x)[0, 0].numpy()
    np.testing.assert_allclose(got[:, :, : 20 // factor], want, atol=1e-12)


@pytest.mark.parametrize(("pitch", "m"), [(2, 10), (3, 7), (4, 5), (3.5, 6), (19, 1), (40, 1)])
def test_slices_are_those_whose_centre_is_in_the_volume(pitch, m):
    assert slice_matrix(20, pitch, 1.0).shape == (m, 20)


def test_a_gap_is_not_seen():
    M = slice_matrix(20, 5, 3)  # centres at 2.5, 7.5, ...: voxels 1 to 3 of each five
    want = torch.zeros(4, 20).double()
    for i in range(4):
        want[i, 5 * i + 1 : 5 * i + 4] = 1 / 3
    torch.testing.assert_close(M, want)
    M = slice_matrix(20, 5, 4)  # 0.5 to 4.5
    torch.testing.assert_close(M[1, 5:10], torch.tensor([0.5, 1, 1, 1, 0.5]).double() / 4)
    assert float(M[1, :5].abs().max()) == 0


def density(profile, u):
    """What the closed form integrates."""
    if profile == "gaussian":
        return math.exp(-4 * math.log(2) * u**2) * 2 * math.sqrt(math.log(2) / math.pi)
    pulse = lambda t: np.sinc(t) * np.cos(np.pi * t / 4) ** 2 * np.cos(2 * np.pi * t * u)  # noqa: E731
    return quad(pulse, -2, 2)[0]


@pytest.mark.parametrize("profile", ["gaussian", "smooth"])
def test_a_profile_is_the_integral_of_its_density(profile):
    for a, b in ((-0.3, 0.2), (0.4, 0.6), (-1.7, -1.1)):
        got = np.diff(CUMULATIVE[profile](np.array([a, b])))[0]
        assert got == pytest.approx(quad(lambda u: density(profile, u), a, b)[0], abs=1e-7)
    M = slice_matrix(400, 400, 100, profile)[0].numpy()
    above = np.flatnonzero(M >= M.max() / 2)
    assert np.ptp(above) + 1 == pytest.approx(100, rel=0.03), "its full width at half maximum is the thickness"
    np.testing.assert_allclose(M, M[::-1], atol=1e-12)


def test_closed_forms_agree_with_those_of_the_svd():
    """Block means: the short way of prox, solve_y and pinv is the same map as the long one."""
    A = average_pool(PLANE, (4, 5))
    assert A.gram is not None
    assert thick_slices(PLANE, 0, 2, 4).gram is None, "slices that overlap"
    x, y = image(A.domain, 2), image(A.range, 2)
    torch.testing.assert_close(A.prox(y, x, 0.2), SVDOperator.prox(A, y, x, 0.2, iterations=0))
    torch.testing.assert_close(A.solve_y(y, 0.2), SVDOperator.solve_y(A, y, 0.2, iterations=0))
    torch.testing.assert_close(A.pinv(y), SVDOperator.pinv(A, y))
    assert A.norm2 == pytest.approx(float(A.singular_values.max()) ** 2, rel=1e-12)
    torch.testing.assert_close(A(A.pinv(y)), y)
    torch.testing.assert_close(A.direct(y), y.repeat_interleave(4, 2).repeat_interleave(5, 3)[..., :30, :24])


def test_axes_that_are_left_alone_cost_no_matrix():
    A = thick_slices(BLOCK, 2, 4, 4)
    assert sum(b.numel() for b in A.buffers()) < 5 * 20 + 20
    full = Separable(BLOCK, [torch.eye(9), torch.eye(8), slice_matrix(20, 4, 4)])
    x, y = image(BLOCK, 2), image(A.range, 2)
    torch.testing.assert_close(A(x), full(x), rtol=0, atol=0)
    torch.testing.assert_close(A.VH(x).square(), full.VH(x).square())
    torch.testing.assert_close(A.adjoint(y), full.adjoint(y))


BAD = {
    "finer": (lambda: area_matrix(10, 0.5), ConfigError, "must lie between 1 and the axis' length 10, got 0.5"),
    "too coarse": (lambda: bicubic_matrix(10, 11), ConfigError, "between 1 and the axis' length 10, got 11"),
    "a ratio too few": (lambda: area_average(PLANE, (2,)), ShapeError, "1 ratios given for images of 1x30x24"),
    "a ratio too many": (lambda: bicubic(PLANE, (2, 2, 2)), ShapeError, "3 ratios given for images of 1x30x24"),
    "sizes too few": (lambda: resampled(PLANE, (2,)), ShapeError, "1 sizes given for images of 1x30x24"),
    "linear to larger voxels": (
        lambda: linear_matrix(9, 8), ConfigError,
        "linear interpolation is for smaller voxels: 1 to 8 become 8, got 9; average areas",
    ),
    "no thickness": (lambda: slice_matrix(10, 2, 0), ConfigError, "a thickness > 0, got 0 voxels; check thickness"),
    "too far apart": (lambda: slice_matrix(10, 21, 2), ConfigError, "every 21 voxels do not fit an axis of 10"),
    "no pitch": (lambda: slice_matrix(10, 0, 2), ConfigError, "every 0 voxels do not fit"),
    "no axis": (lambda: thick_slices(PLANE, 2, 2, 2), ConfigError, "have spatial axes 0 to 1, not 2"),
    "a matrix too many": (
        lambda: Separable(PLANE, [None, torch.eye(24), None]),
        ShapeError,
        r"widths \('any', 24, 'any'\) do not fit images of 1x30x24 float64: one per spatial axis",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_message(name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()
