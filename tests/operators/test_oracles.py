"""Other libraries as oracles, and each error message."""

import math

import numpy as np
import pytest
import torch
from invdiff.errors import ConfigError, ShapeError
from invdiff.operators import (
    FFT,
    Mask,
    ParallelRadon,
    RealImage,
    Separable,
    UndersampledFourier,
    average_pool,
    gaussian_blur,
)
from invdiff.space import Space
from scipy.ndimage import gaussian_filter
from skimage.draw import ellipse
from skimage.filters import gaussian
from skimage.measure import block_reduce
from skimage.transform import radon

SPACE = Space((1, 30, 23), torch.float64)
IMAGE = torch.randn(1, 1, 30, 23, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_fft_is_numpys():
    x = torch.complex(IMAGE, IMAGE.flip(-1))
    want = np.fft.fft2(x.numpy(), norm="ortho")
    np.testing.assert_allclose(FFT(Space(SPACE.shape, torch.complex128))(x).numpy(), want, atol=1e-12)


def test_undersampled_fourier_is_its_product():
    lines = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)) < 0.4
    c = Space(SPACE.shape, torch.complex128)
    product = Mask(c, lines) @ FFT(c) @ RealImage(SPACE)
    A = UndersampledFourier(SPACE, lines)
    torch.testing.assert_close(A(IMAGE), product(IMAGE))
    x, y = IMAGE.flip(-1), A(IMAGE)
    want = product.prox(y, x, 0.01, iterations=100)
    torch.testing.assert_close(A.prox(y, x, 0.01, iterations=1), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("std", [(0.5, 2.0), (3.0, 0.0), (9.0, 9.0)])
def test_blur_is_scipys(std):
    want = gaussian_filter(IMAGE[0, 0].numpy(), std, mode="reflect")
    np.testing.assert_allclose(gaussian_blur(SPACE, std)(IMAGE)[0, 0].numpy(), want, atol=1e-12)


def test_pool_is_block_reduce():
    want = block_reduce(IMAGE[0, 0, :, :22].numpy(), (3, 2), np.mean)
    pooled = average_pool(Space((1, 30, 22), torch.float64), (3, 2))(IMAGE[..., :22])
    np.testing.assert_allclose(pooled[0, 0].numpy(), want, atol=1e-12)


def test_pool_keeps_a_shorter_last_block():
    pooled = average_pool(SPACE, (7, 5))(IMAGE)
    assert pooled.shape[-2:] == (5, 5)
    torch.testing.assert_close(pooled[0, 0, 4, 4], IMAGE[0, 0, 28:, 20:].mean())


@pytest.mark.parametrize("n", [64, 65])
def test_radon_is_skimages_on_a_smooth_phantom(n):
    image = np.zeros((n, n))
    for centre, radii, value in (((30, 34), (20, 14), 1.0), ((36, 28), (5, 9), 2.0)):
        rows, columns = ellipse(*centre, *radii)
        image[rows, columns] += value
    image = gaussian(image, 2)
    degrees = np.array([0.0, 17.0, 45.0, 90.0, 123.0, 180.0])
    want = radon(image, degrees, circle=False).T
    A = ParallelRadon(Space((1, n, n), torch.float64), torch.tensor(np.deg2rad(degrees)), want.shape[1])
    got = A(torch.from_numpy(image)[None, None])[0, 0].numpy()
    # skimage rotates about pixel n // 2 and its detector centre differs by up to half a cell for odd sizes
    shift = min(np.linalg.norm(np.roll(want, k, axis=1) - got) for k in (-1, 0, 1)) / np.linalg.norm(want)
    assert shift < 0.05
    mass = image.sum()
    np.testing.assert_allclose(got.sum(axis=1), mass, rtol=2e-3)


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


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mask(SPACE, torch.ones(5, 5, dtype=torch.bool)), ShapeError, "does not fit images of"),
        (lambda: Mask(SPACE, torch.zeros(30, 1, dtype=torch.bool)), ConfigError, "nothing would be measured"),
        (lambda: Mask(SPACE, torch.ones(30, 1)), ConfigError, "not boolean"),
        (lambda: FFT(SPACE), ConfigError, "needs complex images"),
        (lambda: ParallelRadon(SPACE, torch.tensor([0.0, 90.0])), ConfigError, "in radians"),
        (lambda: ParallelRadon(Space((2, 5, 5)), torch.zeros(1)), ShapeError, "one channel"),
        (lambda: Separable(SPACE, [torch.eye(3), torch.eye(23)]), ShapeError, "do not fit images"),
        (lambda: gaussian_blur(SPACE, (-1.0, 1.0)), ConfigError, "must be >= 0"),
        (lambda: average_pool(SPACE, (31, 1)), ConfigError, "between 1 and"),
        (lambda: average_pool(SPACE, (2, 2)) @ average_pool(SPACE, (2, 2)), ShapeError, "cannot compose"),
        (lambda: average_pool(SPACE, (2, 2)) + gaussian_blur(SPACE, (1, 1)), ShapeError, "cannot add"),
    ],
)
def test_messages(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_radon_measures_a_point_where_it_is():
    image = torch.zeros(1, 1, 30, 23, dtype=torch.float64)
    image[0, 0, 5, 20] = 1  # row offset -9.5, column offset 9
    A = ParallelRadon(SPACE, torch.tensor([0.0, math.pi / 2]), 41)
    where = A(image)[0, 0] @ torch.arange(41).double() - 20
    torch.testing.assert_close(where, torch.tensor([9.0, 9.5]).double())
