"""Measures of an uncertainty against closed forms, where it is right, too small and off."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chisquare, norm

from invdiff.errors import ShapeError
from invdiff.metrics.calibration import BINS, LEVELS, crps_ensemble, crps_gaussian, evaluate, of_errors, pooled
from invdiff.predictive import Law

VOXELS = 50_000
SHAPE = (50, 50, 20)


@pytest.fixture
def world():
    """Mean, standard deviations from 0.5 to 2, and a truth that is spread so."""
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=SHAPE), rng.uniform(0.5, 2, SHAPE)
    return mean + std * rng.normal(size=SHAPE), mean, std


def z_scores(found, want):
    want = np.array(want)
    return (np.array(found) - want) / np.sqrt(want * (1 - want) / VOXELS)


def test_right(world):
    row = evaluate(*world)
    assert row["voxels"] == VOXELS
    assert row["levels"] == list(LEVELS) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert abs(z_scores(row["coverage"], LEVELS)).max() < 4
    assert abs(row["miscalibration"]) < 0.005
    assert len(row["pit"]) == BINS
    assert chisquare(np.array(row["pit"]) * VOXELS).pvalue > 1e-3
    assert row["spread"] == pytest.approx(world[2].mean())
    assert row["width90"] == pytest.approx(2 * norm.ppf(0.95) * world[2].mean())
    assert row["crps"] == pytest.approx(
        world[2].mean() / np.sqrt(np.pi), rel=0.02
    )  # E CRPS of N(0, s^2) is s / sqrt(pi)


def test_a_spread_that_is_twice_too_small(world):
    reference, mean, std = world
    row = evaluate(reference, mean, std / 2)
    want = 2 * norm.cdf(norm.ppf((1 + np.array(LEVELS)) / 2) / 2) - 1
    assert abs(z_scores(row["coverage"], want)).max() < 4
    assert row["miscalibration"] == pytest.approx((want - LEVELS).mean(), abs=0.005)
    edges = norm.cdf(norm.ppf(np.arange(BINS + 1) / BINS) / 2)
    assert abs(z_scores(row["pit"], np.diff(edges))).max() < 4
    assert row["crps"] > evaluate(*world)["crps"]


def test_a_mean_that_is_off(world):
    reference, mean, std = world
    row = evaluate(reference + std, mean, std)
    assert row["coverage"][LEVELS.index(0.9)] == pytest.approx(norm.cdf(0.645) - norm.cdf(-2.645), abs=0.01)
    assert row["pit"][-1] == pytest.approx(1 - norm.cdf(norm.ppf(0.95) - 1), abs=0.01)


def test_the_law_of_few_samples(world):
    """Standard deviations of 8 independent samples are too narrow as Gaussians, and right by Student's law."""
    reference, mean, std = world
    drawn = mean + std * np.random.default_rng(1).normal(size=(8, *SHAPE))
    found = {"mean": drawn.mean(0), "std": drawn.std(0, ddof=1)}
    row = evaluate(reference, **found, law=Law.of(8, antithetic=False), samples=drawn)
    assert abs(z_scores(row["coverage"], LEVELS)).max() < 4
    assert chisquare(np.array(row["pit"]) * VOXELS).pvalue > 1e-3
    assert evaluate(reference, **found)["miscalibration"] < -0.02
    assert row["crps_samples"] == pytest.approx(std.mean() / np.sqrt(np.pi), rel=0.02)


@pytest.mark.parametrize(("error", "sigma"), [(0.0, 1.0), (0.7, 0.3), (-2.0, 1.5), (1.0, 0.0)])
def test_crps_of_a_gaussian_is_its_integral(error, sigma):
    def squared(x):
        below = norm.cdf(x / sigma) if sigma else float(x >= 0)
        return (below - (x >= error)) ** 2

    want = quad(squared, -20, 20, points=[0, error], limit=200)[0]
    assert crps_gaussian(np.array([error]), np.array([sigma]))[0] == pytest.approx(want, abs=1e-6)


def test_crps_of_an_ensemble_is_its_double_sum_and_fair():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 40)), rng.normal(size=40)
    between = abs(x[:, None] - x[None]).sum((0, 1)) / (2 * 5 * 4)
    np.testing.assert_allclose(crps_ensemble(x, y), abs(x - y).mean(0) - between)
    y = rng.normal(size=100_000)
    for n in (2, 8):
        mean = crps_ensemble(rng.normal(size=(n, 100_000)), y).mean()
        assert mean == pytest.approx(1 / np.sqrt(np.pi), abs=0.01)


def test_the_mask_and_the_whole_of_parts(world):
    mask = np.zeros(SHAPE, bool)
    mask[10:30, 5:40, 3:9] = True
    reference, mean, std = (np.where(mask, a, b) for a, b in zip(world, (99, 0, 0.1), strict=True))
    row = evaluate(reference, mean, std, mask=mask)
    assert row["voxels"] == mask.sum()
    error = [(world[0] - world[1])[..., k][mask[..., k]] for k in range(3, 9)]
    parts = [of_errors(e, world[2][..., k][mask[..., k]]) for k, e in enumerate(error, 3)]
    for name, value in pooled(parts).items():
        assert value == pytest.approx(row[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros((3, 3))}, r"the mean has shape \(3, 3\), the reference \(4, 3\); give the same grid"),
        ({"std": np.zeros(4)}, r"the standard deviation has shape \(4,\), the reference \(4, 3\)"),
        ({"mask": np.ones((4, 2), bool)}, "the mask has shape"),
        ({"mask": np.zeros((4, 3), bool)}, "the mask is empty: nothing to compare"),
        ({"std": -np.ones((4, 3))}, "a standard deviation is below 0; give that of samples"),
        ({"samples": np.zeros((1, 4, 3))}, r"the samples have shape \(1, 4, 3\), not \(N, \*\(4, 3\)\) with N > 1"),
        ({"samples": np.zeros((5, 4, 2))}, r"the samples have shape \(5, 4, 2\)"),
    ],
)
def test_messages(change, message):
    given = {"reference": np.zeros((4, 3)), "mean": np.zeros((4, 3)), "std": np.ones((4, 3))} | change
    with pytest.raises(ShapeError, match=message):
        evaluate(**given)
