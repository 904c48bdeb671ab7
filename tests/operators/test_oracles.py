"""Other libraries and closed forms as oracles."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.draw import ellipse
from skimage.filters import gaussian
from skimage.measure import block_reduce
from skimage.transform import radon
from torch.nn.functional import avg_pool2d

from invdiff.operators import (
    FFT,
    Coils,
    Mask,
    ParallelRadon,
    RealImage,
    Sense,
    UndersampledFourier,
    average_pool,
    centred_mask_to_fft,
    gaussian_blur,
)
from invdiff.space import Space
from invdiff.testing.operators import dense

SPACE = Space((1, 30, 23), torch.float64)
IMAGE = torch.randn(1, 1, 30, 23, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_fft_is_numpys():
    x = torch.complex(IMAGE, IMAGE.flip(-1))
    want = np.fft.fft2(x.numpy(), norm="ortho")
    np.testing.assert_allclose(FFT(Space(SPACE.shape, torch.complex128))(x).numpy(), want, atol=1e-12)


def test_centred_masks_move_dc_to_the_corner():
    points = torch.zeros(6, 7, dtype=torch.bool)
    points[3, 3] = points[2, 4] = True
    assert centred_mask_to_fft(points).nonzero().tolist() == [[0, 0], [5, 1]]
    assert centred_mask_to_fft(points[:, 3:4]).nonzero().tolist() == [[0, 0]]


def test_undersampled_fourier_is_its_product():
    lines = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)) < 0.4
    c = Space(SPACE.shape, torch.complex128)
    product = Mask(c, lines) @ FFT(c) @ RealImage(SPACE)
    A = UndersampledFourier(SPACE, lines)
    torch.testing.assert_close(A(IMAGE), product(IMAGE))
    x, y = IMAGE.flip(-1), A(IMAGE)
    want = product.prox(y, x, 0.01, iterations=100)
    torch.testing.assert_close(A.prox(y, x, 0.01, iterations=1), want, atol=1e-5, rtol=1e-5)


ROWS = torch.arange(7) % 2 == 0
POINTS = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(7)) < 0.5
MASKS = {
    "lines": ((7, 6), ROWS[:, None]),
    "lines along the other axis": ((7, 6), ROWS[:6]),
    "points": ((5, 4), POINTS[:, :, 0]),
    "all": ((7, 6), ROWS[:, None] | True),
    "3-D lines": ((5, 4, 6), POINTS[:, :1]),
    "3-D lines, the last axis whole": ((5, 4, 6), POINTS[:, :, :1]),
    "3-D planes": ((5, 4, 6), POINTS[0, :, :1]),
    "3-D points": ((5, 4, 6), POINTS),
}


@pytest.mark.parametrize("problems", [None, 3])
@pytest.mark.parametrize("name", MASKS)
def test_sense_is_its_product(name, problems):
    """Number for number, in the order of Mask."""
    sizes, kept = MASKS[name]
    space, g = Space((1, *sizes), torch.complex128), torch.Generator().manual_seed(8)
    shape = (4, *sizes) if problems is None else (problems, 4, *sizes)
    coils = Coils(space, torch.randn(shape, dtype=space.dtype, generator=g))
    product, A = Mask(coils.range, kept) @ FFT(coils.range, len(sizes)) @ coils, Sense(coils, kept)
    x = torch.randn(3, *space.shape, dtype=space.dtype, generator=g)
    y = product(x) + 1
    for act in (lambda A: A(x), lambda A: A.adjoint(y), lambda A: A.normal(x), lambda A: A.direct(y)):
        torch.testing.assert_close(act(A), act(product))


def test_two_halves_of_k_space_are_all_of_it():
    space, g = Space((1, 7, 6), torch.complex128), torch.Generator().manual_seed(9)
    coils = Coils(space, torch.randn(4, 7, 6, dtype=space.dtype, generator=g))
    A, x = Sense(coils, ROWS[:, None]), torch.randn(2, 1, 7, 6, dtype=space.dtype, generator=g)
    torch.testing.assert_close(A.normal(x) + A.masked(~ROWS[:, None]).normal(x), coils.normal(x))


@pytest.mark.parametrize("std", [(0.5, 2.0), (3.0, 0.0), (9.0, 9.0)])
def test_blur_is_scipys(std):
    want = gaussian_filter(IMAGE[0, 0].numpy(), std, mode="reflect")
    np.testing.assert_allclose(gaussian_blur(SPACE, std)(IMAGE)[0, 0].numpy(), want, atol=1e-12)


def test_pool_is_block_reduce():
    want = block_reduce(IMAGE[0, 0, :, :22].numpy(), (3, 2), np.mean)
    pooled = average_pool(Space((1, 30, 22), torch.float64), (3, 2))(IMAGE[..., :22])
    np.testing.assert_allclose(pooled[0, 0].numpy(), want, atol=1e-12)


def test_pool_with_shorter_last_blocks_is_torchs():
    pooled = average_pool(SPACE, (7, 5))(IMAGE)
    torch.testing.assert_close(pooled, avg_pool2d(IMAGE, (7, 5), ceil_mode=True))
    torch.testing.assert_close(pooled[0, 0, 4, 4], IMAGE[0, 0, 28:, 20:].mean())


@pytest.mark.parametrize(("h", "w"), [(64, 64), (65, 65), (64, 48), (51, 64)])
def test_radon_is_skimages_on_a_smooth_phantom(h, w):
    image = np.zeros((h, w))
    for centre, radii, value in (((30, 28), (15, 14), 1.0), ((36, 24), (5, 9), 2.0)):
        rows, columns = ellipse(*centre, *radii)
        image[rows, columns] += value
    image = gaussian(image, 2)
    degrees = np.array([0.0, 17.0, 45.0, 90.0, 123.0, 180.0, 251.0])
    want = radon(image, degrees, circle=False).T
    A = ParallelRadon(Space((1, h, w), torch.float64), np.deg2rad(degrees), want.shape[1])
    got = A(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert np.linalg.norm(got - want) < 2e-3 * np.linalg.norm(want)


@pytest.mark.parametrize(("h", "w"), [(6, 8), (7, 7), (10, 2), (1, 5)])
def test_radon_sees_every_pixel_from_every_angle(h, w):
    angles = np.arange(72) * np.pi / 36
    A = ParallelRadon(Space((1, h, w), torch.float64), angles)
    wider = ParallelRadon(A.domain, angles, A.range.shape[2] + 20)
    seen, all_there_is = (B.adjoint(torch.ones(1, *B.range.shape).double()) for B in (A, wider))
    torch.testing.assert_close(seen, all_there_is)


def test_radon_is_the_same_product_for_few_and_many_columns():
    A = ParallelRadon(Space((1, 30, 23)), np.linspace(0, 3, 7))
    x = IMAGE.float() * torch.arange(1, 41)[:, None, None, None]
    torch.testing.assert_close(A(x), torch.cat([A(row[None]) for row in x]), rtol=1e-5, atol=1e-3)


def test_radon_of_a_disc_is_its_chord():
    n, radius = 129, 40.0
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    A = ParallelRadon(Space((1, n, n), torch.float64), torch.tensor([0.3, 1.1]), 129)
    t = np.arange(129) - 64
    chord = 2 * np.sqrt(np.clip(radius**2 - t**2, 0, None))
    got = A(torch.from_numpy(disc)[None, None])[0, 0].numpy()
    inner = np.abs(t) < 35
    np.testing.assert_allclose(got[:, inner], np.broadcast_to(chord[inner], (2, inner.sum())), rtol=0.02)


def test_radon_measures_a_point_where_it_is():
    image = torch.zeros(1, 1, 30, 23, dtype=torch.float64)
    image[0, 0, 5, 20] = 1  # the axis is at pixel (15, 11)
    A = ParallelRadon(SPACE, torch.tensor([0.0, math.pi / 2]), 41)
    where = A(image)[0, 0] @ torch.arange(41).double() - 20
    torch.testing.assert_close(where, torch.tensor([9.0, 10.0]).double())


def test_norm2_is_the_largest_squared_singular_value():
    A = ParallelRadon(Space((1, 9, 8), torch.float64), torch.arange(6) * math.pi / 6)
    top = torch.linalg.matrix_norm(dense(A), 2) ** 2
    assert A.norm2 == pytest.approx(float(top), rel=1e-6)
    assert (-2.0 * A).norm2 == pytest.approx(4 * float(top), rel=1e-6)
    # 50 power iterations leave 0.7 % here, so operators that know their singular values ask these.
    assert gaussian_blur(Space((1, 128, 96), torch.float64), (1.5, 2.0)).norm2 == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("A", [
    ParallelRadon(Space((1, 9, 8), torch.float64), torch.arange(6) * math.pi / 6),
    gaussian_blur(Space((1, 12, 10), torch.float64), (1.5, 2.0)),
], ids=["ct", "blur"])  # fmt: skip
def test_mean_square_is_the_mean_squared_singular_value(A):
    """Within four standard errors of Hutchinson's estimate by 8 images."""
    s2 = torch.linalg.svdvals(dense(A)) ** 2
    error = float((2 * (s2**2).sum() / 8).sqrt() / s2.sum())
    assert A.mean_square == pytest.approx(float(s2.sum()) / A.domain.reals, rel=4 * error)
    assert (-2.0 * A).mean_square == pytest.approx(4 * A.mean_square, rel=1e-12)


def test_mean_square_is_that_of_all_problems():
    maps = (
        torch.complex(torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)) * torch.tensor([1.0, 3.0])[:, None, None, None]
    )
    A = Coils(Space((1, 4, 4), torch.complex64), maps)
    assert A.rows([0]).mean_square == A.rows([1]).mean_square == A.mean_square == pytest.approx(5, rel=0.5)


def test_singular_values_are_those_of_the_matrix():
    A = average_pool(Space((1, 7, 6), torch.float64), (2, 4))
    s = A.singular_values.flatten().sort(descending=True).values
    want = torch.linalg.svdvals(dense(A))
    torch.testing.assert_close(s[: len(want)], want)
    assert float(s[len(want) :].abs().max()) == 0
