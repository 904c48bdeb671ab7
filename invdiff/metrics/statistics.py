"""Paired statistics: bootstrap interval of a mean difference, Wilcoxon's test, Holm's correction."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, wilcoxon

Floats = NDArray[np.float64]
FEWEST = 6  # pairs with which Wilcoxon's test can fall below 0.05: 2 / 2^6 = 0.03
AT_ONCE = 10**7  # numbers drawn at a time


def difference(
    a: Floats, b: Floats, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> dict[str, Any]:
    """How paired figures (n,) differ.

    Returns:
        `pairs`; the means `mean_a` and `mean_b`; their `difference`, b - a; its bootstrap `interval` from `low` to
        `high`, None for a single pair; `p` of Wilcoxon's signed-rank test, or None and a `note` that says why.
    """
    low, high, kind = interval(b - a, confidence=confidence, resamples=resamples, seed=seed) or (None, None, None)
    p, note = rank_test(b - a)
    return {
        "pairs": len(a),
        "mean_a": float(a.mean()),
        "mean_b": float(b.mean()),
        "difference": float((b - a).mean()),
        "low": low,
        "high": high,
        "interval": kind,
        "p": p,
        "note": note,
    }


def interval(
    differences: Floats, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float, str] | None:
    """Bootstrap interval of the mean of paired differences, (n,): low, high and its kind; None for less than two.

    Resampling the differences is resampling the pairs. The kind is `bca` (Efron 1987), or `percentile` where that is
    degenerate, as for differences that are all the same.
    """
    if len(differences) < 2:
        return None
    for kind in ("BCa", "percentile"):
        with warnings.catch_warnings(action="ignore"):  # degenerate: seen from what comes back
            low, high = bootstrap(
                (differences,), np.mean, confidence_level=confidence, n_resamples=resamples, method=kind,
                batch=max(1, AT_ONCE // len(differences)), random_state=np.random.default_rng(seed),
            ).confidence_interval  # fmt: skip
        if math.isfinite(low) and math.isfinite(high):
            break
    return float(low), float(high), kind.lower()


def rank_test(differences: Floats) -> tuple[float | None, str | None]:
    """The two-sided p of Wilcoxon's signed-rank test of paired differences, (n,), or else why there is none."""
    different = int(np.count_nonzero(differences))
    if different < FEWEST:
        return None, f"Wilcoxon's test needs {FEWEST} pairs that differ, got {different}"
    return float(wilcoxon(differences).pvalue), None


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p of several tests (Holm, Scand. J. Statist. 1979): they hold for all of them together."""
    order = np.argsort(p)
    scaled = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return out.tolist()
