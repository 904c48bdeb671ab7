"""Whether an uncertainty is right: coverage, PIT, CRPS and sharpness against a reference, each a mean over voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from invdiff.errors import ShapeError
from invdiff.predictive import GAUSSIAN, ONE_STD, Law

Array = NDArray[np.floating[Any]]
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
BINS = 20  # of the PIT histogram


def evaluate(
    reference: Array,
    mean: Array,
    std: Array,
    *,
    law: Law = GAUSSIAN,
    mask: NDArray[np.bool_] | None = None,
    samples: Array | None = None,
) -> dict[str, Any]:
    """How well mean and standard deviation foretell a reference.

    Args:
        reference: the truth, any shape.
        mean: what is thought of it, of this shape.
        std: how uncertain that is, of this shape, not negative.
        law: how the truth should be spread about the mean, for such a standard deviation.
        mask: voxels that count, of this shape; all by default.
        samples: (N, *shape), N > 1, for the CRPS of an ensemble as `crps_samples`.

    Returns:
        `voxels`, `levels`, and as means over voxels: `coverage`, the share of references inside the central interval of
        each level; `miscalibration`, coverage - level over the levels (below 0: too confident); `pit`, the histogram of
        the law's probability below the reference, 20 bins, flat where all is right (Gneiting, Balabdaoui and Raftery
        2007); `crps`, of the Gaussian with the law's 68 % interval; and, as sharpness, `width90` of the 90 % interval
        and `spread`, half the 68 % one. The last three have the units of the reference.

    Raises:
        ShapeError: shapes that differ, an empty mask, a single sample, a standard deviation below 0.
    """
    _check(reference, mean, std, mask, samples)
    inside = np.ones(reference.shape, bool) if mask is None else mask
    x, s = reference[inside].astype(np.float64), std[inside].astype(np.float64)
    row = of_errors(x - mean[inside], s, law)
    if samples is not None:
        row["crps_samples"] = float(crps_ensemble(samples[:, inside].astype(np.float64), x).mean())
    return row


def of_errors(error: Array, std: Array, law: Law = GAUSSIAN) -> dict[str, Any]:
    """`evaluate` of reference - mean (voxels,) and standard deviation."""
    spread = law.spread(std)
    away = np.abs(error)
    coverage = np.array([(away <= multiple * spread).mean() for multiple in law.multiple(LEVELS)])
    pit = law.below(error, np.zeros_like(error), std)
    sigma = float(law.multiple(ONE_STD)) * spread
    return {
        "voxels": len(error),
        "levels": list(LEVELS),
        "coverage": coverage.tolist(),
        "miscalibration": float((coverage - LEVELS).mean()),
        "pit": (np.histogram(pit, BINS, (0, 1))[0] / len(error)).tolist(),
        "crps": float(crps_gaussian(error, sigma).mean()),
        "width90": float(2 * law.multiple(0.9) * spread.mean()),
        "spread": float(sigma.mean()),
    }


def pooled(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of all voxels together, of rows of `of_errors` (each with a law of its own, if need be)."""
    voxels = np.array([r["voxels"] for r in rows])
    means = {
        k: np.average([r[k] for r in rows], axis=0, weights=voxels).tolist()
        for k in ("coverage", "miscalibration", "pit", "crps", "width90", "spread")
    }
    return {"voxels": int(voxels.sum()), "levels": list(LEVELS), **means}


def crps_gaussian(error: Array, sigma: Array) -> Array:
    """Continuous ranked probability score of N(0, sigma^2): Gneiting and Raftery, JASA 2007, section 4.2.

    Its error where sigma is 0. The same units as the error; the less the better.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = error / sigma
        score = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    return np.where(sigma > 0, score, np.abs(error))


def crps_ensemble(samples: Array, reference: Array) -> Array:
    """The same of samples (N, ...), N > 1, fair: mean |x - y| - sum_ij |x_i - x_j| / (2 N (N - 1)) (Ferro, QJRMS 2014).

    Its expectation does not depend on N for independent samples. Those of pairs with opposite noise are farther apart
    than that, which makes theirs too small.
    """
    n = len(samples)
    ranks = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *[1] * reference.ndim)
    between = (ranks * np.sort(samples, axis=0)).sum(0) / (n * (n - 1))
    return np.abs(samples - reference).mean(0) - between


def _check(reference: Array, mean: Array, std: Array, mask: NDArray[np.bool_] | None, samples: Array | None) -> None:
    shape = reference.shape
    for name, found in (("mean", mean), ("standard deviation", std), ("mask", mask)):
        if found is not None and found.shape != shape:
            raise ShapeError(f"the {name} has shape {found.shape}, the reference {shape}; give the same grid")
    if samples is not None and (samples.shape[1:] != shape or len(samples) < 2):
        raise ShapeError(f"the samples have shape {samples.shape}, not (N, *{shape}) with N > 1; give two or more")
    if mask is not None and not mask.any():
        raise ShapeError("the mask is empty: nothing to compare")
    if (std < 0).any():
        raise ShapeError("a standard deviation is below 0; give that of samples")
