"""Known noise levels, found again: within 5 % on smooth objects, with the documented biases on sharp ones."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rice

from invdiff.errors import ConfigError
from invdiff.noise.estimate import covariance, from_counts, from_edge, from_image, variance_ratio, whitener

SNR = (10, 20, 50, 100)


def gaussian(shape, generator, dtype=torch.float64):
    return torch.randn(shape, generator=generator, dtype=dtype) * (2**0.5 if dtype.is_complex else 1)


@pytest.fixture
def smooth():
    """Eight slices of a smooth body in an empty background, (8, 1, 96, 80), at most 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 80), indexing="ij")
    body = torch.sigmoid(12 * (0.7 - (x**2 + 1.2 * y**2).sqrt()))
    waves = torch.stack([1 + 0.3 * torch.sin(3 * x + k) * torch.cos(2 * y - k) for k in range(8)])
    image = (body * waves)[:, None].double()
    return image / image.max()


@pytest.mark.parametrize("snr", SNR)
def test_gaussian_images(snr, smooth, generator):
    sigma = 1 / snr
    assert from_image(smooth + sigma * gaussian(smooth.shape, generator)) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("snr", SNR)
def test_rician_images_whose_background_is_quieter(snr, smooth, generator):
    sigma = 1 / snr
    real, imaginary = (gaussian(smooth.shape, generator) for _ in range(2))
    magnitude = torch.hypot(smooth + sigma * real, sigma * imaginary)
    assert from_image(magnitude, "rician") == pytest.approx(sigma, rel=0.05)
    assert from_image(magnitude) < 0.93 * sigma, "without the correction the background pulls the level down"


def test_a_background_that_was_set_to_zero_does_not_count(smooth, generator):
    noisy = torch.where(smooth > 0.05, smooth + 0.05 * gaussian(smooth.shape, generator), 0)
    for law in ("gaussian", "rician"):
        assert from_image(noisy, law) == pytest.approx(0.05, rel=0.25), "its rim does: biased upwards"


def test_texture_is_taken_for_noise(generator):
    stripes = (torch.arange(64) % 2).double().expand(1, 1, 64, 64) * (torch.arange(64) % 2)[:, None]
    noisy = stripes + 0.01 * gaussian(stripes.shape, generator)
    assert from_image(noisy) > 0.1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_flat_images_have_no_noise(value):
    for law in ("gaussian", "rician"):
        assert from_image(torch.full((2, 1, 32, 32), value), law) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("snr", SNR)
@pytest.mark.parametrize("lines", [96, 40])
def test_the_edge_of_k_space(snr, lines, smooth, generator):
    sigma = 1 / snr
    k = torch.fft.fftshift(torch.fft.fft2(smooth.to(torch.complex128), norm="ortho"), dim=(-2, -1))
    noisy = k + sigma * gaussian(k.shape, generator, torch.complex128)
    measured = torch.zeros(96, 80, dtype=torch.bool)
    measured[torch.randperm(96, generator=generator)[:lines]] = True
    found = from_edge(noisy * measured, measured)
    assert found == pytest.approx(sigma, rel=0.05)


def test_the_edge_pools_coils_by_variance(generator):
    k = torch.stack([s * gaussian((32, 64, 64), generator, torch.complex128) for s in (1.0, 3.0)], dim=1)
    assert from_edge(k, torch.ones(64, 64, dtype=torch.bool)) == pytest.approx(math.sqrt(5), rel=0.05)


def test_a_sharp_image_biases_the_edge_upwards(generator):
    sharp = torch.zeros(1, 1, 64, 64, dtype=torch.complex128)
    sharp[..., 31, 30] = 100.0  # one bright voxel: its spectrum is flat
    k = torch.fft.fftshift(torch.fft.fft2(sharp, norm="ortho"), dim=(-2, -1))
    assert from_edge(k + 0.01 * gaussian(k.shape, generator, torch.complex128), torch.ones(64, 64) > 0) > 0.5


def test_too_few_samples_at_the_edge():
    with pytest.raises(ConfigError, match=r"20 samples at the edge of k-space tell no noise level; give --sigma"):
        from_edge(torch.ones(1, 1, 20, 10, dtype=torch.complex64), torch.ones(20, 10, dtype=torch.bool))


def test_whitening_makes_coils_independent_and_keeps_their_mean_strength(generator):
    mixing = torch.tensor([[2, 0, 0], [1 + 1j, 3, 0], [0.5j, -1, 1]], dtype=torch.complex128)
    noise = gaussian((40000, 3), generator, torch.complex128) @ mixing.mT
    psi = covariance(noise)
    # Real and imaginary part have unit variance each.
    torch.testing.assert_close(psi, 2 * mixing @ mixing.mH, atol=0.4, rtol=0)
    W, sigma = whitener(2 * mixing @ mixing.mH)
    white = noise @ W.mT
    torch.testing.assert_close(covariance(white), 2 * sigma**2 * torch.eye(3, dtype=torch.complex128), atol=0.2, rtol=0)
    assert white.real.std() == pytest.approx(sigma, rel=0.02)
    assert sigma**2 == pytest.approx(float((mixing.abs() ** 2).sum() / 3))
    exact = W @ (2 * mixing @ mixing.mH) @ W.mH
    torch.testing.assert_close(exact, 2 * sigma**2 * torch.eye(3, dtype=torch.complex128))


def test_noise_scans_that_tell_nothing():
    with pytest.raises(ConfigError, match="3 noise samples are too few for 2 coils; give --sigma"):
        covariance(torch.ones(3, 2, dtype=torch.complex64))
    same = torch.ones(2, 2, dtype=torch.complex128)
    for psi in (same, torch.diag(torch.tensor([1.0, 0.0])).to(torch.complex128)):
        with pytest.raises(ConfigError, match="degenerate"):
            whitener(psi)


def test_counts(generator):
    counts = torch.poisson(torch.full((200000,), 400.0, dtype=torch.float64), generator=generator)
    spread = torch.log(1e5 / counts).std()
    assert float(from_counts(torch.tensor(400.0))) == pytest.approx(float(spread), rel=0.01)
    assert float(from_counts(torch.tensor(0.0))) == pytest.approx(math.sqrt(2))


def test_the_variance_of_a_rician_magnitude():
    snr = np.array([0, 0.3, 1, 3, 10, 50, 99, 101, 1e4])
    np.testing.assert_allclose(variance_ratio(snr**2), rice.var(np.minimum(snr, 30)), rtol=1.2e-3)
    assert variance_ratio(np.zeros(1)) == pytest.approx(2 - math.pi / 2)
