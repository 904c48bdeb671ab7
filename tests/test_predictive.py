"""The law of a fresh draw, given few samples, by counting fresh draws; its stretch; maps against closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, t

from invdiff.errors import ConfigError
from invdiff.predictive import GAUSSIAN, ONE_STD, Law

VOXELS = 100_000
LEVELS = np.array([0.1, 0.5, 0.9, 0.99])


def draws(n, antithetic, seed=0):
    """n samples of standard Gaussians, in pairs of opposites or not, and one more."""
    rng = np.random.default_rng(seed)
    if not antithetic:
        return rng.normal(size=(n, VOXELS)), rng.normal(size=VOXELS)
    half = rng.normal(size=(n // 2, VOXELS))
    return np.concatenate([half, -half, rng.normal(size=(n % 2, VOXELS))]), rng.normal(size=VOXELS)


def covered(n, antithetic):
    samples, fresh = draws(n, antithetic)
    multiples = Law.of(n, antithetic=antithetic).multiple(LEVELS)
    away = abs(fresh - samples.mean(0)) / samples.std(0, ddof=1)
    return (away[:, None] <= multiples).mean(0)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("n", [2, 4, 8])
def test_a_fresh_draw_is_covered_as_often_as_said(n, antithetic):
    z = (covered(n, antithetic) - LEVELS) / np.sqrt(LEVELS * (1 - LEVELS) / VOXELS)
    assert abs(z).max() < 4


@pytest.mark.parametrize(("n", "off"), [(3, 0.025), (5, 0.01), (9, 0.005)])
def test_a_sample_without_its_opposite_is_covered_nearly_so(n, off):
    assert abs(covered(n, True) - LEVELS).max() < off


def test_closed_forms():
    assert Law.of(2, antithetic=False).multiple(0.9) == pytest.approx(t.ppf(0.95, 1) * 1.5**0.5)
    assert Law.of(8, antithetic=False).multiple(0.9) == pytest.approx(t.ppf(0.95, 7) * 1.125**0.5)
    assert Law.of(8, antithetic=True).multiple(0.9) == pytest.approx(t.ppf(0.95, 4) * 0.875**0.5)
    assert Law.of(10_000, antithetic=True).multiple(0.9) == pytest.approx(norm.ppf(0.95), rel=1e-3)
    assert GAUSSIAN.multiple(ONE_STD) == pytest.approx(1)


def test_one_sample_has_no_law():
    with pytest.raises(ConfigError, match="an interval needs the spread of two samples or more, found 1; draw more"):
        Law.of(1, antithetic=False)


def test_widened_by_factors():
    plain, levels, factors = Law.of(8, antithetic=True), [0.5, 0.9, 0.99], [2.0, 1.5, 1.2]
    wide = plain.widened(levels, factors, floor=0.3)
    np.testing.assert_allclose(wide.multiple(levels), plain.multiple(levels) * factors)
    every = np.linspace(0.001, 0.9999, 500)
    assert (np.diff(wide.multiple(every)) > 0).all()
    np.testing.assert_allclose(wide.level(wide.multiple(every)), every, atol=1e-9)
    assert wide.multiple(0.999) == pytest.approx(1.2 * plain.multiple(0.999)), "as at the last level"
    assert wide.multiple(0.2) == pytest.approx(2.0 * plain.multiple(0.2)), "as at the first level"
    np.testing.assert_allclose(plain.widened(levels, [1.0] * 3).multiple(every), plain.multiple(every))
    assert wide.spread(np.array(0.4)) == pytest.approx(0.5)


def test_maps_against_closed_forms():
    rng = torch.Generator().manual_seed(0)
    mean, std = torch.randn(2, 3, 4, 5, generator=rng), torch.rand(2, 3, 4, 5, generator=rng) + 0.1
    law = Law.of(4, antithetic=False)
    above = law.exceedance_map(mean, std, 0.3)
    want = t.sf((0.3 - mean.double()) / (std.double() * 1.25**0.5), 3)
    np.testing.assert_allclose(above.numpy(), want, atol=1e-6)
    for stretched in (law, law.widened([0.5, 0.9], [1.4, 1.1], floor=0.2)):
        for q in (0.01, 0.3, 0.5, 0.95):
            edge = stretched.quantile_map(mean, std, q)
            found = stretched.below(edge.double().numpy(), mean.double().numpy(), std.double().numpy())
            np.testing.assert_allclose(found, q, atol=1e-6)
    assert torch.equal(law.quantile_map(mean, std, 0.5), mean)


def test_without_spread_there_is_no_doubt():
    mean, std = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    assert Law.of(8, antithetic=True).below(2.0, mean, std).tolist() == [1.0, 0.5, 0.0]
    assert 0.5 < Law.of(8, antithetic=True).widened([0.9], [1.0], floor=1.0).below(2.0, mean, std)[0] < 1
