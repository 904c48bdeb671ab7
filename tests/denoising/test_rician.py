"""The bias of magnitudes, and the phase of complex series."""

import numpy as np
import pytest
import torch
from scipy import stats

from invdiff.denoising.phase import real_part
from invdiff.denoising.rician import mean, unbiased
from invdiff.errors import ShapeError


def test_the_mean_is_scipys():
    a = np.array([0.0, 0.3, 1.0, 3.0, 20.0, 300.0])
    np.testing.assert_allclose(mean(a), [stats.rice(x).mean() if x < 50 else x + 0.5 / x for x in a], rtol=1e-6)


def test_the_bias_goes():
    """Means of many magnitudes, from no signal to much; within four standard errors."""
    g = np.random.default_rng(0)
    sigma, n = 5.0, 40_000
    for amplitude in (0.0, 2.0, 5.0, 20.0, 400.0):
        noise = sigma * g.standard_normal((2, n))
        found = np.hypot(amplitude + noise[0], noise[1]).mean()
        out = unbiased(np.full((1, 1, 1, 1), found, np.float32), np.full((1, 1, 1), sigma, np.float32)).item()
        slope = max((mean(np.array(amplitude / sigma + 0.05)) - mean(np.array(amplitude / sigma))) / 0.05, 0.05)
        assert abs(out - amplitude) < max(4 * sigma / n**0.5 / slope, 0.35 * sigma if amplitude == 0 else 0), amplitude


def test_nothing_changes_without_noise():
    x = np.random.default_rng(0).random((2, 2, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(unbiased(x, np.zeros((2, 2, 2), np.float32)), x)


def phased(phantom, sigma, seed=0):
    g = np.random.default_rng(seed)
    truth = phantom.series.data.permute(1, 2, 3, 0).numpy()
    x, y = (np.linspace(-1, 1, n) for n in truth.shape[:2])
    ramp = 2 * x[:, None, None, None] + 1.5 * (y**2)[None, :, None, None]
    angle = ramp * g.uniform(-1, 1, truth.shape[3]) + g.uniform(-3, 3, truth.shape[3])
    image = truth * np.exp(1j * angle)
    return truth, image + sigma * (g.standard_normal(truth.shape) + 1j * g.standard_normal(truth.shape))


@pytest.mark.parametrize("polar", [False, True])
def test_the_real_part_has_the_signal_and_no_bias(polar, phantom):
    """Where there is no signal its mean is 0, that of the magnitude 1.25 sigma."""
    truth, image = phased(phantom, 30.0)
    parts = (abs(image), np.angle(image)) if polar else (image.real, image.imag)
    out = real_part(*(p.astype(np.float32) for p in parts), polar=polar)
    inside = phantom.mask
    assert abs((out - truth)[inside].mean()) < 0.1 * 30
    assert (out - truth)[inside].std() == pytest.approx(30, rel=0.1)
    assert abs(image)[~inside].mean() == pytest.approx(1.2533 * 30, rel=0.02)
    assert abs(out[~inside].mean()) < 0.35 * 30
    assert torch.isfinite(torch.from_numpy(out)).all()


def test_parts_of_other_shapes():
    with pytest.raises(
        ShapeError, match=r"two parts of a complex series have shapes \(2, 2, 2, 3\) and \(2, 2, 2, 4\)"
    ):
        real_part(np.zeros((2, 2, 2, 3), np.float32), np.zeros((2, 2, 2, 4), np.float32), polar=True)
