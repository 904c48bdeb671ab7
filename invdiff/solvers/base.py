"""p(x | y): what a solver promises, and what it may ask for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.bridges.base import Bridge
from invdiff.noise.base import NoiseModel
from invdiff.operators.base import Operator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.schedules import ddpm, flow, karras, quad
from invdiff.stepsizes import check_descent, load_ladder

T = TypeVar("T")
OperatorT = TypeVar("OperatorT", bound=Operator)
NoiseT = TypeVar("NoiseT", bound=NoiseModel)
PriorT = TypeVar("PriorT", bound=Prior | Bridge | None)
Schedule = Annotated[
    Literal["karras", "ddpm", "quad", "flow"],
    Doc("Noise ladder: EDM's, DDPM's linear betas strided evenly or as DiffPIR does, or equal steps of a flow."),
]
Steps = Annotated[int, Gt(0), Doc("Number of noise levels.")]
SigmaMax = Annotated[
    float | None, Gt(0), Doc("Highest level, image scaled to [0, 1]; karras and flow. [none: the prior's]")
]
SigmaMin = Annotated[float | None, Gt(0), Doc("Lowest level above 0 of the karras ladder. [none: the prior's]")]


@dataclass(frozen=True)
class Iterate:
    """One step of a run, and all that the next one needs: a run goes on after any iterate as if it had not stopped.

    Attributes:
        step: its number, from 0; -1 before the first.
        sigma: noise level.
        x: state, (B, *shape).
        denoised: clean estimate, (B, *shape).
        memory: what else the solver carries from step to step, by its own order: moments, dual variables.
    """

    step: int
    sigma: float
    x: Tensor
    denoised: Tensor
    memory: tuple[Tensor, ...] = ()

    def rest(self, steps: Iterable[T]) -> Iterator[tuple[int, T]]:
        """Number and item of the steps after this one, of all steps of the run."""
        return islice(enumerate(steps), self.step + 1, None)

    @classmethod
    def before(cls, x: Tensor) -> Iterate:
        """Where a run begins: the state ahead of its first step."""
        return cls(-1, math.inf, x, x)


@dataclass(frozen=True, kw_only=True)
class Solver(ABC, Generic[OperatorT, NoiseT, PriorT]):
    """A method that draws from, or points into, p(x | y). The header of a solver is its list of requirements.

    Class attributes:
        gives: what one run returns: a posterior sample, or a point estimate, which seeds change not at all or by the
            noise of an optimiser.
        paper: where the method is described.
        advice: what to change when a run diverges.
        volumes: whether it ties slices together, and takes whole volumes (C, X, Y, Z) only.
    """

    gives: ClassVar[Literal["sample", "point estimate"]] = "sample"
    paper: ClassVar[str] = ""
    volumes: ClassVar[bool] = False
    advice: ClassVar[str] = "check the scale of the data and the noise level"

    def start(self, problem: InverseProblem[OperatorT, NoiseT], prior: PriorT, rng: Rng) -> Tensor:
        """Where the run begins, (B, *shape): zeros."""
        del prior, rng
        domain = problem.operator.domain
        return torch.zeros((len(problem.y), *domain.shape), dtype=domain.dtype, device=problem.y.device)

    @abstractmethod
    def iterate(
        self, problem: InverseProblem[OperatorT, NoiseT], prior: PriorT, rng: Rng, start: Iterate
    ) -> Iterator[Iterate]:
        """Yield each iterate after `start`; the last one's `x` is the result. Never print, never save.

        Args:
            problem: with a row for each of the state.
            prior: what the solver needs to know of images.
            rng: one stream a row.
            start: `Iterate.before` the first step, or one that an earlier run of the same settings yielded.
        """

    @property
    def length(self) -> int:
        """How many iterates a run yields, for progress bars."""
        return 1

    @property
    def nfe(self) -> int:
        """Network calls of one sample, forward ones."""
        return self.length

    @property
    def draws(self) -> bool:
        """Whether seeds matter with these settings: of samplers, unless a setting makes them deterministic."""
        return self.gives == "sample"

    @property
    def group(self) -> int:
        """Seeds that run together, gk to gk + g - 1, because their samples know of each other: particles."""
        return 1

    @classmethod
    def requirements(cls) -> tuple[Any, Any, Any]:
        """The operator, noise model and prior classes named in the class header."""
        for base in (b for c in cls.__mro__ for b in getattr(c, "__orig_bases__", ())):
            args = get_args(base)
            if len(args) >= 2 and not any(isinstance(a, TypeVar) for a in args):
                return (*args, Prior)[:3]  # a DiffusionSolver names two: its prior is a Prior
        raise TypeError(f"{cls.__name__} does not name its requirements: class {cls.__name__}(Solver[A, N, P])")


@dataclass(frozen=True, kw_only=True)
class DiffusionSolver(Solver[OperatorT, NoiseT, Prior], Generic[OperatorT, NoiseT]):
    """A solver that walks down the prior's noise ladder.

    Class attributes:
        descends: whether each level must be below the one before.
    """

    descends: ClassVar[bool] = True

    steps: Steps = 100
    schedule: Schedule = "karras"
    sigma_max: SigmaMax = 4.0
    sigma_min: SigmaMin = 0.007
    shift: Annotated[float, Gt(0), Doc("Above 1, the flow ladder spends more steps at high noise.")] = 1.0
    ladder: Annotated[str | None, Doc("A ladder from a file of `invdiff tune --ladder`; replaces the schedule.")] = None
    parity: Annotated[
        Literal["safe", "paper", "code"],
        Doc("Where a paper, its code and what is right differ: see the method. safe is what is right."),
    ] = "safe"

    def start(self, problem: InverseProblem[OperatorT, NoiseT], prior: Prior, rng: Rng) -> Tensor:
        """A Gaussian draw with the moments of x_sigma at the highest level.

        The prior's mean and spread matter even at large sigma: without them the posterior mean is visibly off.
        """
        like = torch.empty((len(problem.y), *prior.space.shape), dtype=prior.space.dtype, device=problem.y.device)
        sigma = float(self.sigmas(prior)[0])
        return prior.mean + (prior.std**2 + sigma**2) ** 0.5 * rng.normal("start", 0, like)

    def sigmas(self, prior: Prior) -> Tensor:
        """The ladder, (steps + 1,), descending to 0; raises ConfigError for levels that do not descend."""
        if self.ladder is not None:
            return load_ladder(self.ladder, self.steps)
        sigmas = self._schedule(self.sigma_min or prior.sigma_min, self.sigma_max or prior.sigma_max)
        help_ = "; sigma_max must be finite and above sigma_min, and ddpm and quad have 1000 levels to choose from"
        if self.descends:
            check_descent(sigmas, f"{self.schedule}, {self.steps} steps", help_)
        return sigmas

    def _schedule(self, low: float, high: float) -> Tensor:
        if self.schedule == "karras":
            return karras(self.steps, low, high)
        if self.schedule == "flow":
            return flow(self.steps, high, self.shift)
        return ddpm(self.steps) if self.schedule == "ddpm" else quad(self.steps)

    def levels(self, prior: Prior, start: Iterate) -> list[tuple[int, float, float]]:
        """Step number, this level and the next, of the steps after `start`."""
        ladder = self.sigmas(prior).tolist()
        return list(zip(range(self.steps), ladder[:-1], ladder[1:], strict=True))[start.step + 1 :]

    @property
    def length(self) -> int:
        """One iterate per noise level."""
        return self.steps


def at(sigma: float, x: Tensor) -> Tensor:
    """One noise level for each row of x: (B,), real."""
    return x.new_full((len(x),), sigma, dtype=x.real.dtype)
