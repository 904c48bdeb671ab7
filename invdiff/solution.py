"""solve(): the only loop driver. Checks what a solver needs, runs it chunk by chunk, watches that it stays finite."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invdiff.bridges.base import Bridge
from invdiff.checkpoint import Checkpoint
from invdiff.errors import CapabilityError, DivergedError, OutOfMemoryError
from invdiff.memory import keep, ran_out
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import Iterate, Solver

if TYPE_CHECKING:
    from invdiff.volumes import Volume

Callback = Callable[[Iterate], None]
WIDTH = 8


@dataclass(frozen=True)
class Solution:
    """Samples of N seeds for P problems, (N, P, *shape)."""

    samples: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean over samples, (P, *shape): the estimate with the least expected squared error."""
        return self.samples.mean(0)

    @property
    def std(self) -> Tensor:
        """Standard deviation over samples (divided by N - 1), (P, *shape); zeros for a single sample."""
        return self.samples.std(0) if len(self.samples) > 1 else torch.zeros_like(self.samples[0])


def solve(
    problem: InverseProblem[Any, Any],
    prior: Prior | Bridge | None,
    solver: Solver[Any, Any, Any],
    *,
    seeds: Sequence[int] = (0,),
    indices: Sequence[int] | None = None,
    antithetic: bool = False,
    callback: Callback | None = None,
    width: int = WIDTH,
    noise: Callable[..., Rng] = Rng,
) -> Solution:
    """Run a solver once per seed and problem.

    Rows (seed n, problem p) run in chunks of one fixed width, the last one padded with copies. All that happens to a
    row (network, operator, reductions) therefore happens in a batch of the same width, and a sample alone equals the
    same sample in any batch, bit for bit.

    Args:
        problem: P measurements that share an operator.
        prior: what the solver needs to know of images, a prior or a bridge; None for classical solvers.
        solver: the method and its settings.
        seeds: one sample per seed.
        indices: number of each problem for its random stream; 0 .. P-1 unless given, e.g. the number of a slice
            that is solved by itself.
        antithetic: draw seeds 2k and 2k + 1 from opposite noise (`Rng`), for a mean of less variance.
        callback: called with each iterate of each chunk.
        width: rows per chunk.
        noise: makes the random streams of a chunk, (streams, antithetic=) -> Rng.

    Raises:
        CapabilityError: operator, noise or prior is not what the solver's class header asks for.
        DivergedError: the iterate is not finite; names the step, sigma and what to change.
        OutOfMemoryError: a chunk does not fit in memory.
        Interrupted: Ctrl-C; with what there was.
    """
    how: dict[str, Any] = {"antithetic": antithetic, "callback": callback, "width": width, "noise": noise}
    samples = list(solve_each(problem, prior, solver, seeds=seeds, indices=indices, **how))
    return Solution(torch.stack(samples))


def solve_each(
    problem: InverseProblem[Any, Any],
    prior: Prior | Bridge | None,
    solver: Solver[Any, Any, Any],
    *,
    seeds: Sequence[int] = (0,),
    indices: Sequence[int] | None = None,
    antithetic: bool = False,
    callback: Callback | None = None,
    width: int = WIDTH,
    noise: Callable[..., Rng] = Rng,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Tensor]:
    """The samples of `solve`, (P, *shape), in the order of the seeds, each as soon as it is there.

    Only the sample in progress is kept in memory.

    Args:
        problem, prior, solver, seeds, indices, antithetic, callback, width, noise: as of `solve`.
        checkpoint: where the run is kept, and from where it goes on.
    """
    keep()
    check_requirements(solver, problem, prior)
    count = len(problem.y)
    indices = range(count) if indices is None else indices
    rows = _order(seeds, count, solver.group)
    width = solver.group * max(1, width // solver.group)
    samples: dict[int, Tensor] = {}  # in progress, by seed
    there: set[tuple[int, int]] = set()
    left = list(seeds)
    for number, first in enumerate(range(0, len(rows), width)):
        take = [rows[first + i] if first + i < len(rows) else rows[i % solver.group - solver.group]
                for i in range(width)]  # fmt: skip
        x = checkpoint.finished(number) if checkpoint else None
        if x is None:
            rng = noise([(seed, indices[p]) for seed, p in take], antithetic=antithetic)
            run = _Run(problem.rows([p for _, p in take]).reduced(), prior, solver, rng)
            try:
                x = run(number, callback, checkpoint)
            except KeyboardInterrupt as e:
                seen = run.last.denoised if run.last else ()
                known = {(seed, p): samples[seed][p] for seed, p in there if seed in samples}
                raise Interrupted(known | dict(zip(take, seen, strict=False))) from e
        for (seed, p), image in zip(rows[first:], x.to(problem.y.device), strict=False):
            if seed not in samples:
                samples[seed] = image.new_empty((count, *image.shape))
            samples[seed][p] = image
            there.add((seed, p))
        del x, image  # a sample that is complete is handed over with no chunk beside it
        while left and all((left[0], p) in there for p in range(count)):
            yield samples.pop(left.pop(0))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run.

    Attributes:
        rows: clean estimates so far, by seed and problem; those of earlier, complete samples are not among them.
        estimate: the same as a volume, where `reconstruct` was interrupted and there is one.
    """

    def __init__(self, rows: dict[tuple[int, int], Tensor], estimate: Volume | None = None) -> None:
        super().__init__()
        self.rows, self.estimate = rows, estimate


def _order(seeds: Sequence[int], problems: int, group: int) -> list[tuple[int, int]]:
    """(seed, problem) of each row. Seeds that run together are neighbours, and all of them run, asked for or not."""
    if group == 1:
        return [(seed, p) for seed in seeds for p in range(problems)]
    groups = dict.fromkeys(seed // group for seed in seeds)
    return [(g * group + i, p) for g in groups for p in range(problems) for i in range(group)]


def check_requirements(
    solver: Solver[Any, Any, Any], problem: InverseProblem[Any, Any], prior: Prior | Bridge | None
) -> None:
    """Raise CapabilityError, before any work, when a part is not what the solver's class header names."""
    name, got = type(solver).__name__, (problem.operator, problem.noise, prior)
    for part, need, found in zip(("operator", "noise", "prior"), solver.requirements(), got, strict=True):
        if need is not type(None) and not isinstance(found, need):
            message = f"{name} needs a {need.__name__} as its {part}; {_kind(found)} is not one"
            raise CapabilityError(message + _others(got))
    if solver.volumes and len(problem.operator.domain.shape) != 4:
        raise CapabilityError(
            f"{name} reconstructs whole volumes, not {problem.operator.domain}; give the planes of its prior, e.g. "
            "--planes 2, or take another solver"
        )


def _others(got: tuple[object, object, object]) -> str:
    """`; dds, diffpir would do`: at most four solvers whose headers fit all parts, those that use the prior first."""
    from invdiff import registry

    def fits(cls: Any) -> bool:  # noqa: ANN401 - a class of solvers
        parts = zip(cls.requirements(), got, strict=True)
        return all(need is type(None) or isinstance(part, need) for need, part in parts)

    known: dict[str, Any] = registry.names("solvers")
    names = sorted((cls.requirements()[2] is type(None), name) for name, cls in known.items() if fits(cls))
    return f"; {', '.join(name for _, name in names[:4])} would do" if names else ""


def _kind(part: object) -> str:
    return "None" if part is None else type(part).__name__


class _Run:
    """One chunk: its steps, watched."""

    def __init__(
        self, problem: InverseProblem[Any, Any], prior: Prior | Bridge | None, solver: Solver[Any, Any, Any], rng: Rng
    ) -> None:
        self.problem, self.prior, self.solver, self.rng = problem, prior, solver, rng
        self.last: Iterate | None = None

    def __call__(self, number: int, callback: Callback | None, checkpoint: Checkpoint | None) -> Tensor:
        """Every step that is left; the result, (B, *shape)."""
        start = checkpoint.latest(number, self.problem.y.device) if checkpoint else None
        try:
            with torch.no_grad():
                for it in self._iterates(start):
                    self.last = it
                    if checkpoint:
                        checkpoint.keep(number, it)
                    if callback:
                        callback(it)
        except KeyboardInterrupt:
            if checkpoint and self.last:
                checkpoint.save(number, self.last)
            raise
        except (MemoryError, RuntimeError) as e:
            if ran_out(e):
                raise OutOfMemoryError(
                    f"{type(self.solver).__name__} does not fit in memory at {len(self.problem.y)} rows; use a "
                    "smaller volume"
                ) from e
            raise
        assert self.last is not None  # a solver yields at least once
        if checkpoint:
            checkpoint.finish(number, self.last.x)
        return self.last.x

    def _iterates(self, start: Iterate | None) -> Iterator[Iterate]:
        problem, prior, solver = self.problem, self.prior, self.solver
        self.last = start
        steps = solver.iterate(
            problem, prior, self.rng, start or Iterate.before(solver.start(problem, prior, self.rng))
        )
        del start  # no longer needed once there is a next one
        for it in steps:
            if not cmath.isfinite(it.x.sum().item()):  # one pass; what is not finite survives a sum
                where = f"step {it.step}, sigma {it.sigma:.3g}"
                raise DivergedError(f"{type(solver).__name__}, {where}: not finite; {solver.advice}")
            yield it
