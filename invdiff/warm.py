"""Warm starts: a neighbour's estimate as the start at an intermediate noise level, for series and stacks.

A chain has links: the frames of a series, or the slices of a stack. The first link walks the whole noise ladder; each
later one starts from the samples of the one before, seed by seed, with noise of the level sigma_w, and walks what is
left of the same ladder. That is exact where the neighbour's sample is a draw from the link's own posterior. Else a mode
of posterior variance v that is off by d stays off by d v / (v + sigma_w^2), its spread is right: what the data tell is
forgotten, what they do not is kept. With sigma_w at twice the difference of neighbours, d v / (v + 4 d^2) is at most a
quarter of the posterior's deviation, whatever v.

Off unless asked for: a sample then depends on its neighbours, by their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff import registry
from invdiff.bridges import Bridge
from invdiff.checkpoint import Checkpoint
from invdiff.errors import CapabilityError, ConfigError
from invdiff.measurements import Measurement
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.priors.warm import WarmPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import WIDTH, Callback, Interrupted, check_requirements, solve_each
from invdiff.solvers import DDRM, DDNMPlus
from invdiff.solvers.base import DiffusionSolver, Solver

Problem = InverseProblem[Any, Any]
Chain = list[list[int]]
Row = tuple[int, int]  # seed and problem
LEAST = 0.1  # level of a start, unless given: lower ones keep half of a small change between frames (docs/volumes.md)
FEWEST = 2  # levels that a run walks: on the last one some solvers do not look at the data
STARTS = (DiffusionSolver.start, DDRM.start, DDNMPlus.start)  # from the prior's moments, where the data say nothing


@dataclass(frozen=True, kw_only=True)
class Warm:
    """Start each slice or frame but the first from the samples of the one before."""

    along: Annotated[Literal["slices", "frames"], Doc("Which neighbours: slices of a stack, or frames of a series.")]
    sigma: Annotated[
        float | None,
        Gt(0),
        Doc(
            "Noise level of the start, image scaled to [0, 1]; the ladder's next level above counts. [none: twice the "
            "rms difference of neighbours, at least 0.1]"
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.along not in ("slices", "frames") or not (self.sigma is None or self.sigma > 0):
            raise ConfigError(
                f"warm starts go along slices or frames, at a noise level above 0; got {self.along!r}, {self.sigma}"
            )


def chain_of(m: Measurement, warm: Warm) -> Chain:
    """The numbers of the problems of each link; one in the same place of the link before is a problem's neighbour.

    Args:
        m: as it is solved: `as_volumes` where slices are no problems of their own.
        warm: along what.

    Raises:
        ConfigError: slices of volumes that are one unknown; a single slice or frame.
    """
    frames, slices = m.shape[0], len(m.y) // m.shape[0]
    if warm.along == "slices" and m.volumetric:
        raise ConfigError(
            "warm starts along slices need slices that are problems of their own, here a volume is one; choose "
            "--warm frames, or leave --planes"
        )
    if (slices if warm.along == "slices" else frames) < 2:
        other = {"slices": frames, "frames": 1 if m.volumetric else slices}[warm.along]
        instead = f", or take --warm {'frames' if warm.along == 'slices' else 'slices'}" if other > 1 else ""
        kind = warm.along.removesuffix("s")
        raise ConfigError(f"a warm start needs a neighbour, and there is one {kind} only; leave --warm{instead}")
    numbers = [[frame * slices + k for k in range(slices)] for frame in range(frames)]
    return [list(link) for link in zip(*numbers, strict=True)] if warm.along == "slices" else numbers


def check_solver(
    solver: Solver[Any, Any, Any], problem: Problem, prior: Prior | Bridge | None
) -> tuple[DiffusionSolver[Any, Any], Prior]:
    """Solver and prior, which can start in between; raises CapabilityError for others, and names some that can."""
    check_requirements(solver, problem, prior)
    name = type(solver).__name__
    if not isinstance(solver, DiffusionSolver) or not isinstance(prior, Prior) or not _starts_between(type(solver)):
        raise CapabilityError(
            f"a warm start needs a solver that walks down a noise ladder from its start; {name} does not"
            f"{_others(problem)}"
        )
    if solver.ladder is not None:
        raise CapabilityError(
            f"a warm start leaves out the upper levels of {name}'s schedule, and the ladder of a file has no schedule; "
            "leave --warm, or ladder"
        )
    return solver, prior


def width_of(chain: Chain, samples: int, most: int) -> int:
    """Rows per chunk, unless given: those of a link, at most `most`. Fewer rows would be padded to no use."""
    return min(most, len(chain[0]) * samples)


def chunks_of(chain: Chain, samples: int, width: int) -> int:
    """How many chunks there are: each link has its own."""
    return len(chain) * -(-len(chain[0]) * samples // width)


def solve_chain(
    problem: Problem,
    prior: Prior | Bridge | None,
    solver: Solver[Any, Any, Any],
    chain: Chain,
    *,
    sigma: float | None = None,
    seeds: Sequence[int] = (0,),
    antithetic: bool = False,
    callback: Callback | None = None,
    width: int = WIDTH,
    noise: Callable[..., Rng] = Rng,
    checkpoint: Checkpoint | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Solve one link after the other; each seed is a chain of its own.

    Args:
        problem: P problems, in the units of the prior.
        prior: as for `solve`.
        solver: one that walks down a ladder.
        chain: which of them make a link, all P once, as many in each.
        sigma: level of the starts; None: `levels`, at least 0.1.
        seeds, antithetic, callback, width, noise, checkpoint: as for `solve_each`. A sample is the same, bit for bit,
            at the same width.

    Returns:
        Samples, (N, P, *shape), and what was done: levels and their number for each link, calls per sample.

    Raises:
        CapabilityError: as `check_solver`; no sigma, and an operator that is not linear.
        ConfigError: a schedule whose levels below one are no ladder of its own.
        DivergedError, OutOfMemoryError, Interrupted: as `solve`.
    """
    solver, prior = check_solver(solver, problem, prior)
    pairs = list(pairwise(chain))
    asked = [sigma] * len(pairs) if sigma else [max(LEAST, s) for s in levels(problem, pairs)]
    runs = [below(solver, prior, s) for s in asked]
    done: dict[Row, Tensor] = {}
    before: list[int] = []
    chunks = 0
    for link, run in zip(chain, [None, *runs], strict=True):
        rows = [(seed, p) for seed in seeds for p in link]
        starts = torch.stack([done[seed, p] for seed in seeds for p in before]) if run else None
        for first in range(0, len(rows), width):
            take = [min(first + i, len(rows) - 1) for i in range(width)]  # padded with copies, as `solve` does
            chunk = problem.rows([rows[i][1] for i in take])
            how: dict[str, Any] = {"antithetic": antithetic, "callback": callback, "width": width}
            how["noise"] = partial(_streams, noise, [rows[i] for i in take])
            how["checkpoint"] = checkpoint.after(chunks) if checkpoint else None
            model = prior if starts is None else WarmPrior(prior, starts[take])
            try:
                (x,) = solve_each(chunk, model, run or solver, **how)
            except Interrupted as e:
                raise Interrupted(done | {rows[take[i]]: image for (_, i), image in e.rows.items()}) from e
            done |= dict(zip(rows[first:], x, strict=False))
            chunks += 1
        before = link
    samples = torch.stack([torch.stack([done[seed, p] for p in range(len(problem.y))]) for seed in seeds])
    return samples, _facts(solver, prior, sigma, runs)


def levels(problem: Problem, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """Twice the rms difference of neighbours, by their direct images; the largest of each pair of links.

    Where the noise is Gaussian its part is known. That of one image of the two is left in: posteriors of equal images
    differ by their noise.

    Args:
        problem: P problems with a linear operator.
        pairs: numbers of the problems of two links, in the same order.

    Raises:
        CapabilityError: an operator that is not linear.
    """
    A = problem.operator
    if not isinstance(A, LinearOperator):
        raise CapabilityError(f"{type(A).__name__} has no direct images to compare neighbours by; give warm.sigma")
    images = A.direct(problem.y)
    noise = torch.zeros(len(images), dtype=torch.float64)
    if isinstance(problem.noise, GaussianNoise):
        n = Rng([(0, p) for p in range(len(images))]).normal("warm", 0, problem.y)
        noise = _mean_square(A.direct(problem.noise.sigma * n))

    def level(a: list[int], b: list[int]) -> float:
        both = noise[a] + noise[b]
        square = (_mean_square(images[a] - images[b]) - both).clamp_min(0) + both / 2
        return 2 * float(square.max()) ** 0.5

    return [level(list(a), list(b)) for a, b in pairs]


def below(solver: DiffusionSolver[Any, Any], prior: Prior, sigma: float) -> DiffusionSolver[Any, Any] | None:
    """The solver on the levels of its ladder from the first at or above `sigma` down; None where that is the highest.

    Raises:
        ConfigError: a schedule whose lower levels are no ladder that settings can name.
    """
    ladder = solver.sigmas(prior)
    first = min(int((ladder >= sigma).sum()) - 1, solver.steps - FEWEST)
    if first <= 0:
        return None
    run = replace(solver, steps=solver.steps - first, sigma_max=float(ladder[first]))
    if not torch.allclose(run.sigmas(prior), ladder[first:], rtol=1e-6):
        raise ConfigError(
            f"the lower levels of the schedule {solver.schedule} are no ladder of their own, as warm starts need; take "
            "schedule=karras"
        )
    return run


def no_neighbours(started: dict[str, Any]) -> list[str]:
    """What to say where no start was warm: a sentence, or nothing.

    Args:
        started: what `solve_chain` says it did; may be empty.
    """
    if any(started.get("sigma", [True])):
        return []
    return ["no neighbours are alike enough for a warm start: all levels were walked; leave --warm, or set warm.sigma"]


def _streams(noise: Callable[..., Rng], rows: list[Row], places: Any, *, antithetic: bool) -> Rng:  # noqa: ANN401
    """The streams of the rows in a chunk, which `solve` knows by their places alone."""
    return noise([rows[i] for _, i in places], antithetic=antithetic)


def _facts(
    solver: DiffusionSolver[Any, Any], prior: Prior, sigma: float | None, runs: list[DiffusionSolver[Any, Any] | None]
) -> dict[str, Any]:
    calls = [solver.nfe] + [(run or solver).nfe for run in runs]
    return {
        "sigma_asked": sigma,
        "sigma": [None] + [run and round(float(run.sigmas(prior)[0]), 6) for run in runs],
        "nfe": calls,
        "nfe_per_sample": round(sum(calls) / len(calls), 2),
        "calls_saved": round(1 - sum(calls) / (solver.nfe * len(calls)), 4),
    }


def _mean_square(images: Tensor) -> Tensor:
    """Of each, over real components, (P,) float64 on the CPU."""
    reals = torch.view_as_real(images) if images.is_complex() else images
    return reals.double().square().flatten(1).mean(1).cpu()


def _starts_between(cls: type) -> bool:
    return issubclass(cls, DiffusionSolver) and cls.descends and cls.start in STARTS


def _others(problem: Problem) -> str:
    """`; ddnm, diffpir would do`: at most four that start in between and take operator and noise."""
    parts = (problem.operator, problem.noise)

    def fits(cls: Any) -> bool:  # noqa: ANN401 - a class of solvers
        volumes = not cls.volumes or len(problem.operator.domain.shape) == 4
        return _starts_between(cls) and volumes and all(map(isinstance, parts, cls.requirements()[:2]))

    names = sorted(name for name, cls in registry.names("solvers").items() if fits(cls))
    return f"; {', '.join(names[:4])} would do" if names else ""
