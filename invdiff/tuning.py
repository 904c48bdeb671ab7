"""Settings of a solver, chosen for a measurement by what was left out of it; and ladders searched for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.acquisitions.xray import XRay
from invdiff.bridges import Bridge
from invdiff.errors import ConfigError, DivergedError
from invdiff.holdout import Split, split
from invdiff.learned import learned
from invdiff.measurements import Measurement
from invdiff.noise.gaussian import GaussianNoise
from invdiff.preparation import default_width, pick_device
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import Callback, solve
from invdiff.solvers.base import DiffusionSolver, Solver
from invdiff.solvers.guided import GuidedSolver
from invdiff.stepsizes import Ladder, euler, search

AnySolver = Solver[Any, Any, Any]


@dataclass(frozen=True)
class Bench:
    """A few slices of a measurement, scaled for a prior.

    Attributes:
        problem: of these slices, in the prior's units.
        slices: their numbers.
        prior: or bridge; None for classical solvers.
        prior_sha256: checksum of its file.
        views: whether the measurement is made of views.
        width: rows that run together.
    """

    problem: InverseProblem[Any, Any]
    slices: list[int]
    prior: Prior | Bridge | None
    prior_sha256: str | None
    views: bool
    width: int


@dataclass(frozen=True)
class Trial:
    """One candidate.

    Attributes:
        solver: the method with its settings.
        score: ||y - A x||^2 over what was held out, x from the rest: divided by m s^2, so 1 is as good as noise lets it
            be, or, where the noise is 0 or not Gaussian, by ||y||^2. Infinite for a run that diverged.
        seconds: it took.
    """

    solver: AnySolver
    score: float
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """All trials, how the measurement was divided, and whether the scores count in units of the noise."""

    trials: list[Trial]
    split: Split
    noise_units: bool

    @property
    def best(self) -> Trial:
        """That with the lowest score, the first of equals.

        Raises:
            DivergedError: all trials diverged.
        """
        best = min(self.trials, key=lambda t: t.score)
        if best.score == float("inf"):
            name = type(best.solver).__name__
            raise DivergedError(f"{name} diverged with all settings; {best.solver.advice}")
        return best


def prepare(
    measurement: Measurement,
    solver: AnySolver,
    *,
    prior: str | Path | None = None,
    slices: int = 4,
    device: str = "auto",
    dtype: str = "auto",
) -> Bench:
    """Slices evenly over the volume, the prior that the solver needs, and the scale of the whole measurement.

    Raises:
        ConfigError, PriorError: as `reconstruct`.
    """
    place, acquisition, width = pick_device(device), measurement.acquisition, default_width(measurement)
    whole = measurement.problem()
    known = learned(solver, measurement, prior, dtype=dtype, device=place, width=width)
    scaled = known.units.of(whole, air=acquisition.zero).encode(whole)
    count = min(slices, len(whole.y))
    few = [int((i + 0.5) * len(whole.y) / count) for i in range(count)]
    problem = scaled.rows(few)
    problem = replace(problem, operator=problem.operator.to(place), y=problem.y.to(place))
    return Bench(problem, few, known.model, known.sha256, isinstance(acquisition, XRay), width)


def tune(
    bench: Bench,
    solvers: Sequence[AnySolver],
    *,
    samples: int = 2,
    fraction: float = 0.2,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tuning:
    """Reconstruct from a part of the measurement with each candidate; score what it says of the other part.

    Args:
        bench: what `prepare` gives.
        solvers: the candidates.
        samples: of samplers; their mean is scored.
        fraction: of the lines, views or elements that is held out.
        seed: of the division, and of the samples.
        callback: called with each iterate.

    Raises:
        ConfigError: too little was measured to hold some out.
        CapabilityError: the solver does not take what is left, or the problem as such.
    """
    parts = split(bench.problem, views=bench.views, fraction=fraction, seed=seed)
    trials = []
    for solver in solvers:
        began = time.perf_counter()
        seeds = range(seed, seed + (samples if solver.draws else 1))
        try:
            x = solve(
                parts.kept, bench.prior, solver, seeds=seeds, indices=bench.slices, antithetic=True, width=bench.width,
                callback=callback,
            ).mean  # fmt: skip
            score = held_out(parts.held, x)
        except DivergedError:
            score = float("inf")
        trials.append(Trial(solver, score, time.perf_counter() - began))
    return Tuning(trials, parts, _sigma(parts.held) > 0)


def held_out(held: InverseProblem[Any, Any], x: Tensor) -> float:
    """The score of images (P, *domain): see `Trial`."""
    residual2 = float(held.residual_norm2(x).double().sum())
    sigma = _sigma(held)
    if sigma:
        return residual2 / (held.operator.range.reals * len(held.y) * sigma**2)
    return residual2 / float((held.y.abs().double() ** 2).sum())


def search_ladder(
    bench: Bench, solver: AnySolver, steps: int, *, levels: int = 40, callback: Callable[[int], None] | None = None
) -> Ladder:
    """The best `steps` of `levels` noise levels, for deterministic walks from as many starts as run together.

    Of a `GuidedSolver` the walk is its own, towards the measurement; of another one the prior's.

    Raises:
        ConfigError: a solver without noise levels; steps out of range.
    """
    name = type(solver).__name__
    if not isinstance(solver, DiffusionSolver) or not isinstance(bench.prior, Prior):
        raise ConfigError(f"{name} walks down no noise ladder; --ladder is for solvers with the setting `ladder`")
    seeds = range(max(1, bench.width // len(bench.slices)))
    prior, problem = bench.prior, bench.problem.rows([*range(len(bench.slices))] * len(seeds))
    fine = replace(solver, steps=levels, ladder=None)
    sigmas = fine.sigmas(prior)
    rng = Rng([(seed, p) for seed in seeds for p in bench.slices])

    def guided(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        x0, e = fine.estimate(problem, prior, x, sigma, sigma / 2)  # type: ignore[attr-defined]
        return x0, e

    with torch.no_grad():
        denoise = guided if isinstance(fine, GuidedSolver) else euler(prior.denoise)
        return search(denoise, sigmas, fine.start(problem, prior, rng), steps, callback=callback)


def _sigma(problem: InverseProblem[Any, Any]) -> float:
    return problem.noise.sigma if isinstance(problem.noise, GaussianNoise) else 0.0
