"""Blurs and their kernels against scipy, closed forms and each other."""

import math

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from invdiff import kernels
from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.operators import (
    CircularConvolution,
    Convolution,
    VaryingConvolution,
    convolution,
    gaussian_blur,
    gaussian_matrix,
)
from invdiff.space import Space

PLANE = Space((1, 17, 12), torch.float64)
BLOCK = Space((1, 9, 8, 10), torch.float64)
SCIPY = {"circular": "wrap", "reflect": "reflect", "zero": "constant"}


def image(space, rows=1):
    return torch.randn((rows, *space.shape), generator=torch.Generator().manual_seed(4), dtype=space.dtype)


def kernel(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def moments(h, mm):
    """Mean and variance of a kernel along each axis, from its centre, in mm."""
    out = []
    for axis, size in enumerate(h.shape):
        weight = h.sum([a for a in range(h.ndim) if a != axis])
        x = (torch.arange(size) - size // 2) * mm[axis]
        mean = float(weight @ x.double())
        out.append((mean, float(weight @ (x.double() - mean) ** 2)))
    return out


@pytest.mark.parametrize("std", [(1.0, 2.0, 0.5), (0.0, 3.0, 1.5), (6.0, 0.0, 0.0)])
def test_gaussian_in_three_dimensions_is_scipys(std):
    x = image(BLOCK)
    want = gaussian_filter(x[0, 0].numpy(), std, mode="reflect")
    np.testing.assert_allclose(gaussian_blur(BLOCK, std)(x)[0, 0].numpy(), want, atol=1e-12)


@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("shape", [(3, 5), (4, 2), (17, 12), (1, 1), (2, 11)])
def test_convolution_is_scipys(boundary, shape):
    x, h = image(PLANE), kernel(*shape)
    want = convolve(x[0, 0].numpy(), h.numpy(), mode=SCIPY[boundary])
    for A in (convolution(PLANE, h, boundary), Convolution(PLANE, h, boundary)):
        np.testing.assert_allclose(A(x)[0, 0].numpy(), want, atol=1e-12)
    if min(shape) > 1:
        turned = convolution(PLANE, h.flip(0), boundary)(x)[0, 0].numpy()
        assert np.abs(turned - want).max() > 1e-3, "the oracle tells a kernel from its mirror image"


@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 8, 1)])
def test_convolution_in_three_dimensions_is_scipys(boundary, shape):
    x, h = image(BLOCK), kernel(*shape)
    want = convolve(x[0, 0].numpy(), h.numpy(), mode=SCIPY[boundary])
    np.testing.assert_allclose(convolution(BLOCK, h, boundary)(x)[0, 0].numpy(), want, atol=1e-12)


def test_convolution_with_a_gaussian_is_the_separable_blur():
    h = kernels.gaussian((1.2, 0.8), (11, 9))  # gaussian_matrix cuts at 5 and 3; beyond it nearly nothing is left
    x = image(PLANE)
    torch.testing.assert_close(Convolution(PLANE, h)(x), gaussian_blur(PLANE, (1.2, 0.8))(x), rtol=0, atol=1e-3)


def test_closed_forms_of_the_circular_convolution():
    h = kernel(4, 3) / 6
    A, plain = CircularConvolution(PLANE, h), Convolution(PLANE, h, "circular")
    x, y = image(PLANE, 2), image(PLANE, 2).flip(-1)
    u, z = A.prox(y, x, 0.1), A.solve_y(y, 0.1)
    torch.testing.assert_close(plain.normal(u) + 0.1 * u, plain.adjoint(y) + 0.1 * x)
    torch.testing.assert_close(plain(plain.adjoint(z)) + 0.1 * z, y)
    assert A.norm2 == pytest.approx(float(h.sum()) ** 2, rel=1e-12)  # a kernel without negative values: DC is largest
    assert plain.norm2 == pytest.approx(A.norm2, rel=1e-3)


def test_frequencies_that_a_box_loses_are_no_modes():
    A = CircularConvolution(Space((1, 12, 12), torch.float32), torch.ones(4, 1))
    lost = A.singular_values == 0
    assert lost.nonzero()[:, 0].unique().tolist() == [3, 6, 9]  # multiples of 1/4
    assert int(lost.sum()) == 3 * 12
    assert float(A.pinv(image(A.domain)).abs().max()) < 100


def test_varying_with_equal_kernels_is_a_convolution():
    h, x = kernel(3, 4), image(PLANE)
    for boundary in SCIPY:
        A = VaryingConvolution(PLANE, h.expand(3, 2, 3, 4), boundary)
        torch.testing.assert_close(A(x), convolution(PLANE, h, boundary)(x))


def test_each_region_of_a_varying_blur_has_its_kernel():
    space = Space((1, 15, 15), torch.float64)
    hs = kernel(3, 3, 5, 5)
    A = VaryingConvolution(space, hs, "zero")
    for i, j in ((0, 0), (1, 2), (2, 1)):
        x = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
        x[0, 0, 5 * i + 2, 5 * j + 2] = 1  # the middle of a region of 5 x 5
        got = A(x)[0, 0, 5 * i : 5 * i + 5, 5 * j : 5 * j + 5]
        torch.testing.assert_close(got, hs[i, j])
    x = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    x[0, 0, 4, 7] = 1  # two fifths of the way from region (0, 1) to (1, 1)
    torch.testing.assert_close(A(x)[0, 0, 2:7, 5:10], 0.6 * hs[0, 1] + 0.4 * hs[1, 1])


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_straight_motion_along_an_axis(angle):
    h = kernels.rasterise(kernels.straight_path(8.0, angle), (2.0, 2.0))
    h = h[:, 0] if angle == 0 else h[0]
    # A box of 4 voxels between voxels whose weight is linear in the distance.
    torch.testing.assert_close(h, torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125]).double(), rtol=0, atol=1e-6)


def test_oblique_motion_in_voxels_that_are_not_square():
    length, angle, mm = 9.0, 30.0, (1.0, 1.5)
    h = kernels.rasterise(kernels.straight_path(length, angle), mm)
    (mean0, var0), (mean1, var1) = moments(h, mm)
    assert abs(mean0) < 1e-9
    assert abs(mean1) < 1e-9
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # A box of length L has variance L^2 / 12; linear weights add d (1 - d) voxels^2 for fractions d, 1/6 on average.
    assert var0 == pytest.approx((length * c) ** 2 / 12 + mm[0] ** 2 / 6, rel=0.02)
    assert var1 == pytest.approx((length * s) ** 2 / 12 + mm[1] ** 2 / 6, rel=0.02)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_random_motion_is_drawn_from_its_seed(dimensions):
    paths = [kernels.random_path(12.0, dimensions, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(paths[0], paths[1])
    assert np.abs(paths[0] - paths[2]).max() > 0.1
    steps = np.linalg.norm(np.diff(paths[0], axis=0), axis=1)
    np.testing.assert_allclose(steps, 12.0 / kernels.STEPS)
    extents = [np.linalg.norm(np.ptp(p, axis=0)) for p in paths]
    assert all(1 < e < 12 for e in extents), "neither a point nor a straight line"
    h = kernels.rasterise(paths[0], (1.0,) * dimensions)
    assert all(n % 2 for n in h.shape)
    assert float(h.sum()) == pytest.approx(1)
    assert all(abs(mean) < 1e-9 for mean, _ in moments(h, (1.0,) * dimensions)), "the image does not shift"


def test_a_wider_blur_towards_the_corners():
    hs = kernels.widening((3.0, 6.0), (3, 3), (1.0, 2.0), (60, 40))
    peaks = hs.flatten(2).max(-1).values
    assert torch.equal(peaks, peaks.flip(0))
    assert float(peaks[1, 1]) > float(peaks[0, 1]) > float(peaks[0, 0])
    for node, fwhm in (((1, 1), 3.0), ((0, 2), 6.0)):
        for _, variance in moments(hs[node], (1.0, 2.0)):
            assert variance == pytest.approx((fwhm / 2.354820045) ** 2, rel=0.02)
    assert kernels.widening((3.0, 6.0), (1, 1), (1.0, 1.0), (9, 9)).shape == (1, 1, 9, 9)


def nifti(path, values, mm):
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.diag([*mm, 1.0])), path)
    return path


def test_a_kernel_in_voxels_of_the_image(tmp_path):
    h = kernel(4, 3)
    np.save(tmp_path / "psf.npy", 7 * h.numpy())
    torch.testing.assert_close(kernels.read_kernel(tmp_path / "psf.npy", (2.0, 3.0)), h / h.sum())


def test_a_kernel_in_voxels_of_its_own(tmp_path):
    h = kernels.gaussian((6.0, 9.0), (81, 121))  # nothing to cut off
    path = nifti(tmp_path / "psf.nii.gz", h[..., None].numpy(), (0.25, 0.25, 1.0))
    same = kernels.read_kernel(path, (0.25, 0.25))
    torch.testing.assert_close(same, h, rtol=1e-5, atol=1e-9)
    coarse = kernels.read_kernel(path, (1.1, 0.6))
    assert all(n % 2 for n in coarse.shape)
    assert float(coarse.sum()) == pytest.approx(1)
    widths = zip(moments(coarse, (1.1, 0.6)), moments(h, (0.25, 0.25)), (1.1, 0.6), strict=True)
    for (mean, variance), (_, fine), mm in widths:
        assert abs(mean) < 1e-9, "the centre stays at the centre"
        # The density is flat within each fine voxel and averaged over each coarse one: both widen it by mm^2 / 12.
        assert variance == pytest.approx(fine + (mm**2 + 0.25**2) / 12, rel=1e-3)


def test_a_kernel_with_three_axes(tmp_path):
    values = kernel(3, 5, 3).numpy()
    h = kernels.read_kernel(nifti(tmp_path / "psf.nii", values, (1.0, 2.0, 3.0)), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(h.numpy(), values / values.sum(), rtol=1e-5)


BAD_FILES = {
    "empty": (np.zeros((0, 3)), ConfigError, "is empty; a kernel needs at least one value"),
    "negative": (-np.ones((3, 3)), ConfigError, r"sums to -9; a blur needs a positive sum"),
    "zero": (np.zeros((3, 3)), ConfigError, r"sums to 0; a blur needs a positive sum"),
    "not finite": (np.full((3, 3), np.nan), ConfigError, "holds NaN or infinite values; clean it first"),
    "three axes": (np.ones((3, 3, 3)), ShapeError, "holds 3x3x3 numbers, 2 axes are needed"),
    "complex": (np.ones((3, 3), complex), FileError, "holds complex128 values; real numbers are needed"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_kernel(name, tmp_path):
    values, error, message = BAD_FILES[name]
    np.save(tmp_path / "psf.npy", values)
    with pytest.raises(error, match=f"psf.npy.*{message}"):
        kernels.read_kernel(tmp_path / "psf.npy", (1.0, 1.0))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match=r"none.npy: no such file"):
        kernels.read_kernel(tmp_path / "none.npy", (1.0, 1.0))
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(FileError, match=r"text.npy is no readable .npy file"):
        kernels.read_kernel(tmp_path / "text.npy", (1.0, 1.0))
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(FileError, match=r"object.npy is no readable .npy file of numbers"):
        kernels.read_kernel(tmp_path / "object.npy", (1.0, 1.0))


BAD = {
    "complex": (
        lambda: Convolution(Space((1, 5, 5), torch.complex64), kernel(3, 3)),
        ConfigError,
        "needs real images, found 1x5x5 complex64; give real and imaginary part as channels",
    ),
    "axes": (
        lambda: Convolution(PLANE, kernel(3)),
        ShapeError,
        "a kernel of 3 does not fit images of 1x17x12 float64: 2 axes are needed",
    ),
    "empty": (lambda: CircularConvolution(PLANE, kernel(0, 3)), ShapeError, "a kernel of 0x3 does not fit"),
    "large": (
        lambda: CircularConvolution(PLANE, kernel(18, 3)),
        ShapeError,
        "a kernel of 18x3 is larger than images of 1x17x12 float64; crop the kernel",
    ),
    "nan": (lambda: Convolution(PLANE, kernel(3, 3) * math.nan), ConfigError, "complex, NaN or infinite values"),
    "complex kernel": (lambda: Convolution(PLANE, kernel(3, 3) * 1j), ConfigError, "complex, NaN or infinite values"),
    "varying axes": (
        lambda: VaryingConvolution(PLANE, kernel(3, 3, 3)),
        ShapeError,
        "kernels of 3x3x3 do not fit images of 1x17x12 float64: 2 axes of a grid, then 2 of the kernel",
    ),
    "varying grid": (
        lambda: VaryingConvolution(PLANE, kernel(2, 13, 3, 3)),
        ShapeError,
        "a grid of 2x13 kernels is finer than images",
    ),
    "varying nan": (lambda: VaryingConvolution(PLANE, kernel(2, 2, 3, 3) / 0), ConfigError, "NaN or infinite"),
    "negative": (lambda: gaussian_matrix(5, -1.0), ConfigError, "must be >= 0 voxels, got -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_message(name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()
