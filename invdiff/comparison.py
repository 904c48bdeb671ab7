"""One scan, measured and reconstructed three ways: the content of `invdiff demo`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from invdiff.acquisitions.base import Acquisition
from invdiff.measurements import Measurement
from invdiff.metrics import evaluate
from invdiff.priors.scaling import Scaling
from invdiff.reconstruction import Reconstruction, reconstruct
from invdiff.simulation import simulate
from invdiff.solve import Callback, solve
from invdiff.solvers import TV, Adjoint, Solver
from invdiff.volumes import Volume

WEIGHTS = np.geomspace(3e-4, 1e-1, 12)


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
    """TV at the weight, of 12 log-spaced ones, that has the best PSNR over the volume; the truth picks it.

    A bisection finds it with about half of the runs. It takes the error to have one minimum in the weight; at far
    too small weights the curve ripples by about 0.1 dB, which it does not meet on its way to the best one.
    """
    problem = measurement.problem()
    scaling = Scaling.of(problem)
    scaled = scaling.encode(problem)

    @cache
    def run(i: int) -> tuple[float, Volume]:
        image = measurement.volume(scaling.decode(solve(scaled, None, TV(weight=float(WEIGHTS[i]))).mean))
        return float((image.data - truth.data).square().mean()), image

    low, high = 0, len(WEIGHTS) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if run(middle)[0] <= run(middle + 1)[0] else (middle + 1, high)
    return run(low)[1], float(WEIGHTS[low])


def _array(v: Volume) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Frames side by side along the third axis, (X, Y, Z * C)."""
    return np.concatenate(list(v.data.numpy()), axis=2)
