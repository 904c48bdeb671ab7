"""All that is settled before a solver starts: problem, scale, prior, how its network is called, memory and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges import Bridge
from invdiff.errors import ConfigError
from invdiff.fitting import Job, fitted, narrower
from invdiff.gathered import Each, Gathered
from invdiff.learned import Learned, learned
from invdiff.measurements import Measurement
from invdiff.plan import Memory, Plan, Way
from invdiff.planes import OWN, Planes, per_call
from invdiff.priors.scaling import Scaling
from invdiff.problem import InverseProblem
from invdiff.regrid import Choice, home, onto
from invdiff.rng import Rng, SharedRng
from invdiff.solution import check_requirements
from invdiff.solvers.base import DiffusionSolver, Solver
from invdiff.solvers.scd import SCD
from invdiff.steering import Steering
from invdiff.stepsizes import load_ladder
from invdiff.warm import Chain, Warm, chain_of, check_solver, chunks_of, width_of

Problem = InverseProblem[Any, Any]
WHAT_IS_FREE = Memory()


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to reconstruct; what each means stands at `invdiff.reconstruct`."""

    prior: str | Path | None = None
    seeds: Sequence[int] = tuple(range(8))
    device: str = "auto"
    dtype: str = "auto"
    antithetic: bool = True
    width: int | None = None
    steer: Steering | None = None
    planes: Planes | None = None
    grid: Choice = "auto"
    warm: Warm | None = None
    slices: int | None = None
    window: int | None = None
    memory: Memory = WHAT_IS_FREE
    kept: bool = True


@dataclass(frozen=True)
class Prepared:
    """A reconstruction that could start.

    Attributes:
        measurement: as it is solved: by slices or by volumes.
        solver: the method.
        options: as they were given.
        device: where it runs.
        problem: in its own units, on the grid of the scan.
        encoded: in those of the prior, on its grid.
        scaling: from these to those.
        known: the prior or bridge.
        seeds: of the samples that will be drawn.
        draws: whether seeds matter.
        chain: the links of a warm start.
        steers: how the prior is adapted before.
        plan: how the network is called, and what that takes.
        seconds: of the preparation and of the plan.
    """

    measurement: Measurement
    solver: Solver[Any, Any, Any]
    options: Options
    device: torch.device
    problem: Problem
    encoded: Problem
    scaling: Scaling
    known: Learned
    seeds: tuple[int, ...]
    draws: bool
    chain: Chain | None
    steers: Steering | None
    plan: Plan
    seconds: tuple[float, float]

    @property
    def noise(self) -> Callable[..., Rng]:
        """Makes the random streams."""
        return _streams(self.options.planes)

    def unknown(self, u: Tensor) -> Tensor:
        """Images of the prior, (P, *space), in the units of the scan and on its grid."""
        return _unknown(self.encoded, self.scaling, self.known, u)

    def gathering(self, each: Each | None) -> Gathered:
        """What takes the samples."""
        return Gathered(self.problem, self.measurement, each, spread=len(self.seeds) > 1)


def prepare(measurement: Measurement, solver: Solver[Any, Any, Any], options: Options) -> Prepared:
    """Settle all that `invdiff.reconstruct` needs, and see that it fits into memory.

    Raises:
        ConfigError, CapabilityError, PriorError, OutOfMemoryError: as `invdiff.reconstruct`.
    """
    began, o = time.perf_counter(), options
    measurement = measurement.as_volumes() if o.planes else measurement
    device = pick_device(o.device)
    problem = _to(measurement.problem(), device)
    chain = chain_of(measurement, o.warm) if o.warm else None
    most = default_width(measurement)
    width = o.width or (width_of(chain, len(o.seeds), most) if chain else most)
    planes = o.planes or OWN
    way = Way(width, o.slices or per_call(measurement, planes), o.dtype, o.window)
    how: dict[str, Any] = {"device": device, "planes": planes, "grid": o.grid}

    def bind(way: Way) -> Learned:
        return learned(solver, measurement, o.prior, **how, **asdict(way))

    known = bind(way)
    draws = solver.draws and not (isinstance(known.model, Bridge) and not known.model.process.stochastic)
    seeds = tuple(o.seeds) if draws else tuple(o.seeds)[:1]
    _check_ladder(solver, known)
    scaling = known.units.of(problem, air=measurement.acquisition.zero)
    encoded = scaling.encode(onto(problem, known.model.space) if known.grid and known.model else problem)
    check_requirements(solver, encoded, known.model)
    if chain:
        check_solver(solver, encoded, known.model)
    steers = o.steer or (Steering() if isinstance(solver, SCD) else None)

    def finish(u: Tensor) -> object:
        found = Gathered(problem, measurement, lambda *_: None, spread=len(seeds) > 1)
        for another in (u, torch.zeros_like(u))[: len(seeds)]:
            found.add(_unknown(encoded, scaling, known, another))
        return found.result()

    turns = math.ceil(o.planes.ratio) if o.planes and len(o.planes.axes) > 1 else 1
    chunks = partial(chunks_of, chain or [list(range(len(problem.y)))], len(seeds))
    job = Job(encoded, solver, len(seeds), bind, finish, chunks, turns, _streams(o.planes), steers,
              whole=measurement.whole, kept=o.kept, began=began)  # fmt: skip
    given = any((o.width, o.slices, o.window))
    ways = (way,) if given else narrower(way, known.model, volumes=measurement.volumetric, windows=steers is None)
    ready = time.perf_counter()
    plan, known = fitted(job, ways, known, o.memory)
    seconds = ready - began, time.perf_counter() - ready
    return Prepared(measurement, solver, o, device, problem, encoded, scaling, known, seeds, draws, chain, steers, plan, seconds)  # noqa: E501  # fmt: skip


def planned(
    measurement: Measurement,
    solver: Solver[Any, Any, Any],
    *,
    gb: float | None = None,
    **options: Any,  # noqa: ANN401 - of `Options`
) -> Plan:
    """What `reconstruct` would take of memory and time.

    Args:
        measurement, solver, options: as for `reconstruct`.
        gb: GiB that it may take; None: what is free.

    Raises:
        OutOfMemoryError: nothing fits. All else that `reconstruct` raises before it starts.
    """
    return prepare(measurement, solver, Options(memory=Memory(gb, timed=True), **options)).plan


def default_width(m: Measurement) -> int:
    """As many slices at once as in a network call, or one volume."""
    return 1 if m.volumetric else per_call(m)


def pick_device(name: str) -> torch.device:
    """The device called `name`; raises ConfigError when this machine has none of the kind."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(f"device {name!r} is not available here; use auto or cpu") from e
    return device


def _check_ladder(solver: Solver[Any, Any, Any], known: Learned) -> None:
    if known.sha256 and isinstance(solver, DiffusionSolver) and solver.ladder:
        load_ladder(solver.ladder, solver.steps, prior_sha256=known.sha256, solver=type(solver).__name__.lower())


def _streams(planes: Planes | None) -> Callable[..., Rng]:
    return partial(SharedRng, axis=planes.axes[0], share=planes.shared) if planes and planes.shared else Rng


def _unknown(encoded: Problem, scaling: Scaling, known: Learned, u: Tensor) -> Tensor:
    return scaling.decode_(home(encoded, u) if known.grid else u)  # of a sample that is nobody else's


def _to(problem: Problem, device: torch.device) -> Problem:
    return replace(problem, operator=problem.operator.to(device), y=problem.y.to(device))
