"""Noise-power spectra against closed forms: white noise, and noise of a known spectrum."""

import numpy as np
import pytest

from invdiff.errors import ShapeError
from invdiff.metrics.noise_power import noise_power

SIGMA, SPACING = 12.0, (0.5, 0.5)


def white(shape=(128, 128, 40), seed=0):
    return SIGMA * np.random.default_rng(seed).normal(size=shape)


def filtered(noise, spacing, width):
    """Through a Gaussian of standard deviation `width` in mm; and what it passes, |H|^2, at a frequency in 1/mm."""
    fx, fy = (np.fft.fftfreq(n, d) for n, d in zip(noise.shape, spacing, strict=False))
    h = np.exp(-2 * (np.pi * width) ** 2 * (fx[:, None] ** 2 + fy**2))
    return np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) * h[..., None], axes=(0, 1)).real, lambda f: np.exp(
        -4 * (np.pi * width * f) ** 2
    )


def everywhere(volume):
    return np.ones(volume.shape, bool)


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.4, 0.7)])
def test_white_noise_has_the_variance_times_the_area_of_a_voxel_everywhere(spacing):
    found = noise_power(white(), everywhere(white()), spacing)
    level = SIGMA**2 * spacing[0] * spacing[1]
    width = 1 / (64 * min(spacing))
    waves = 2 * np.pi * found.frequency * width * 64**2 * spacing[0] * spacing[1]  # of a ring, half of them independent
    z = (found.power / level - 1) * np.sqrt(waves / 2 * 40 * 4)  # 40 slices of four patches that share nothing
    assert abs(z).max() < 4
    assert found.power.mean() == pytest.approx(level, rel=0.01)
    assert found.noise == pytest.approx(SIGMA, rel=0.005)
    nyquist = 0.5 / max(spacing)
    assert found.frequency[-1] == pytest.approx(nyquist, rel=0.03)
    assert found.mean_frequency == pytest.approx(nyquist / 2, rel=0.02)
    assert (np.diff(found.frequency) > 0).all()


def test_units():
    """Twice the noise has four times the power; voxels twice as wide too, at half of the frequencies."""
    noise = white((50, 40, 3))
    one, loud, wide = (
        noise_power(v, everywhere(v), s) for v, s in ((noise, SPACING), (2 * noise, SPACING), (noise, (1.0, 1.0)))
    )
    np.testing.assert_allclose(loud.power, 4 * one.power, rtol=1e-10)
    np.testing.assert_allclose(wide.power, 4 * one.power, rtol=1e-10)
    np.testing.assert_allclose(wide.frequency, one.frequency / 2, rtol=1e-10)
    assert (loud.noise, wide.noise) == pytest.approx((2 * one.noise, one.noise), rel=1e-10)


def test_noise_of_a_known_spectrum():
    noise, passed = filtered(white((256, 256, 40)), SPACING, width=0.4)
    found = noise_power(noise + 100, everywhere(noise), SPACING)
    level = SIGMA**2 * SPACING[0] * SPACING[1]
    strong = passed(found.frequency) > 0.05
    assert strong.sum() > 15
    assert found.power[strong] == pytest.approx(level * passed(found.frequency[strong]), rel=0.08)
    rings = found.frequency
    fine = np.linspace(0, rings[-1], 1000)
    mean = (fine * passed(fine)).sum() / passed(fine).sum()
    assert found.mean_frequency == pytest.approx(mean, rel=0.03)
    assert found.noise == pytest.approx(noise.std(), rel=0.02)


def test_the_peak_of_noise_around_one_frequency():
    """Grain of a single frequency: the root of twice its variance is its amplitude."""
    i = np.arange(64)[:, None, None]
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (1, 1, 60))
    wave = np.broadcast_to(3 * np.sin(2 * np.pi * 10 * i / 64 + phase), (64, 64, 60))
    found = noise_power(wave, everywhere(wave), SPACING)
    assert found.peak_frequency == pytest.approx(10 / 64 / 0.5, rel=0.02)
    assert found.peak == found.power.max()
    assert found.noise == pytest.approx(3 / np.sqrt(2), rel=0.01)


def test_a_shading_of_second_order_is_no_noise():
    x, y = np.mgrid[:128, :128] / 128
    noise = white()
    shaded = noise + (1000 * x**2 - 700 * x * y + 300 * y)[..., None]
    plain, other = (noise_power(v, everywhere(v), SPACING) for v in (noise, shaded))
    np.testing.assert_allclose(other.power, plain.power, rtol=1e-6)


def test_only_the_region_counts_and_the_size_of_patches_fits_most_slices():
    volume = white((90, 90, 12))
    i, j = np.mgrid[:90, :90]
    mask = np.zeros(volume.shape, bool)
    for k in range(12):  # discs that hold squares of 1.41 times their radius
        mask[..., k] = (i - 44) ** 2 + (j - 40) ** 2 < (18 + 2 * k) ** 2
    spoilt = np.where(mask, volume, 1e6)
    found = noise_power(spoilt, mask, SPACING)
    assert 36 <= found.side <= 44
    assert found.patches >= 6
    assert found.noise == pytest.approx(SIGMA, rel=0.05)


def test_facts_hold_the_curve():
    found = noise_power(white(), everywhere(white()), SPACING)
    facts = found.facts()
    assert facts["frequency"] == found.frequency.tolist()
    assert facts["power"] == found.power.tolist()
    assert (facts["unit"], facts["frequency_unit"], facts["side"]) == ("intensity^2 mm^2", "1/mm", 64)


def test_no_noise_has_no_mean_frequency():
    nothing = np.zeros((20, 20, 1))
    found = noise_power(nothing, everywhere(nothing), SPACING)
    assert found.noise == 0
    assert np.isnan(found.mean_frequency)


def test_messages():
    volume = white((40, 40, 3))
    with pytest.raises(ShapeError, match=r"the mask has shape \(3, 3, 3\), the volume \(40, 40, 3\); give"):
        noise_power(volume, np.ones((3, 3, 3), bool), SPACING)
    for mask in (np.zeros(volume.shape, bool), np.indices(volume.shape)[0] < 15):
        with pytest.raises(ShapeError, match="no slice of the mask holds a square of 16 x 16 voxels, which a noise-p"):
            noise_power(volume, mask, SPACING)
    with pytest.raises(ShapeError, match="no slice of the mask holds a square of 16"):
        noise_power(volume[:9], np.ones((9, 40, 3), bool), SPACING)
