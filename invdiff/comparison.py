"""One scan, measured and reconstructed three ways: the content of `invdiff demo`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.acquisitions.base import Acquisition
from invdiff.linalg import dot
from invdiff.measurements import Measurement, elements
from invdiff.metrics import evaluate
from invdiff.operators.base import LinearOperator
from invdiff.priors.scaling import Units
from invdiff.reconstruction import Reconstruction, reconstruct
from invdiff.rng import generator
from invdiff.simulation import simulate
from invdiff.solution import Callback, solve
from invdiff.solvers import TV, Adjoint, Solver
from invdiff.volumes import Volume

JUDGED = 12  # slices that choose the weight, evenly over the volume
WEIGHTS = np.geomspace(1e-3, 4e-1, 12)  # in units of the mean eigenvalue of A^H A


@dataclass(frozen=True)
class Comparison:
    """Volumes by name (truth, zero_filled, tv, recon, recon_std), metrics by name, and the facts of the runs."""

    volumes: dict[str, Volume]
    metrics: dict[str, dict[str, Any]]
    facts: dict[str, Any]


def compare(
    truth: Volume,
    acquisition: Acquisition,
    solver: Solver[Any, Any, Any],
    *,
    noise: float = 0.01,
    seed: int = 0,
    callback: Callback | None = None,
    report: Callable[[str], None] = lambda text: None,
    **options: Any,  # noqa: ANN401 - passed on to `reconstruct`
) -> Comparison:
    """Simulate, then reconstruct by the adjoint, by TV with its best weight and by `solver`."""
    began = time.perf_counter()
    measurement = simulate(truth, acquisition, noise=noise, seed=seed)
    report("zero-filled")
    zero_filled = reconstruct(measurement, Adjoint()).mean
    report("total variation, best of 12 weights")
    tv, weight = best_tv(measurement, truth)
    tv_seconds = time.perf_counter() - began
    report("posterior samples")
    recon: Reconstruction = reconstruct(measurement, solver, callback=callback, **options)
    images = {"zero_filled": zero_filled, "tv": tv, "reconstruction": recon.mean}
    metrics = {name: evaluate(_array(v), _array(truth)) for name, v in images.items()}
    volumes = {"truth": truth, "zero_filled": zero_filled, "tv": tv, "recon": recon.mean}
    if recon.std is not None:
        volumes["recon_std"] = recon.std
    total = time.perf_counter() - began
    facts = recon.facts | {"tv_weight": weight, "tv_seconds": tv_seconds, "total_seconds": total}
    return Comparison(volumes, metrics, facts)


def best_tv(measurement: Measurement, truth: Volume) -> tuple[Volume, float]:
    """TV at the weight, of 12 log-spaced ones, that has the least error on 12 slices; the truth picks it.

    A bisection finds it with about half of the runs. It takes the error to have one minimum in the weight; at far
    too small weights the curve ripples by about 0.1 dB, which it does not meet on its way to the best one.
    """
    problem = measurement.problem()
    scaling = Units().of(problem)
    scaled = scaling.encode(problem)
    weights = WEIGHTS * mean_eigenvalue(scaled.operator)
    stored = elements(truth.data, measurement.acquisition, measurement.axis)
    few = sorted({int(p) for p in torch.linspace(0, len(stored) - 1, JUDGED)})

    def run(i: int, rows: Sequence[int]) -> Tensor:
        images = solve(scaled.rows(list(rows)), None, TV(weight=float(weights[i]))).mean
        return measurement.acquisition.to_stored(scaling.decode(images))

    @cache
    def error(i: int) -> float:
        return float((run(i, few) - stored[few]).square().mean())

    low, high = 0, len(WEIGHTS) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if error(middle) <= error(middle + 1) else (middle + 1, high)
    return measurement.place(run(low, range(len(stored)))), float(weights[low])


def mean_eigenvalue(A: LinearOperator) -> float:
    """Trace of A^H A divided by the number of unknowns, from 8 fixed random images (Hutchinson 1990)."""
    x = torch.randn((8, *A.domain.shape), dtype=A.domain.dtype, generator=generator("mean eigenvalue"))
    return float(dot(x, A.normal(x)).sum() / dot(x, x).sum())


def _array(v: Volume) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Frames side by side along the third axis, (X, Y, Z * C)."""
    return np.concatenate(list(v.data.numpy()), axis=2)
