"""I2SB (Liu et al., ICML 2023): from the degraded image back to the clean one, by a bridge learned for the task.

    x    = x1 at the last time: the direct reconstruction of y
    x0   = the bridge's clean image of x
    x   <- (1 - k) x0 + k x + q z

With one step the result is the bridge's own estimate: the posterior mean where it is shown x1. Many steps transport the
law of degraded images to that of clean ones; only a bridge that is shown x1 samples p(x0 | x1).

parity: as published the last move too mixes state and estimate; safe returns the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Le
from torch import Tensor

from invdiff.bridges.base import Bridge
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import Iterate, Solver

Problem = InverseProblem[LinearOperator, GaussianNoise]


@dataclass(frozen=True, kw_only=True)
class I2SB(Solver[LinearOperator, GaussianNoise, Bridge]):
    """Image-to-image Schroedinger bridge: one network call per step, from the direct reconstruction on."""

    paper: ClassVar[str] = "Liu et al., I2SB: Image-to-image Schroedinger bridge, ICML 2023"
    advice: ClassVar[str] = "use a bridge that was trained for this acquisition and noise"

    steps: Annotated[int, Ge(1), Le(999), Doc("Network calls.")] = 10
    parity: Annotated[Literal["safe", "paper", "code"], Doc("What the last move returns: see the method.")] = "safe"

    def start(self, problem: Problem, prior: Bridge, rng: Rng) -> Tensor:
        """x1."""
        del prior, rng
        return problem.operator.direct(problem.y)

    def iterate(self, problem: Problem, prior: Bridge, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per step."""
        x, process = start.x, prior.process
        (x1,) = start.memory or (x,)
        for step, (t, s) in start.rest(self.times(len(process))):
            k, q = process.back(t, s)
            x0, push = self.estimate(problem, prior, x, x1, t)
            if step < self.steps - 1:
                x = (1 - k) * x0 + k * x + push + q * rng.normal("bridge", step, x)
            else:
                x = x0 + push if self.parity == "safe" else (1 - k) * x0 + k * x + push
            yield Iterate(step, float(process.s[t]), x, x0, (x1,))

    def times(self, count: int) -> list[tuple[int, int]]:
        """Evenly spaced times, from the degraded end on."""
        times = torch.linspace(count - 1, 0, self.steps + 1, dtype=torch.float64).round().long().tolist()
        return list(pairwise(times))

    def estimate(self, problem: Problem, prior: Bridge, x: Tensor, x1: Tensor, t: int) -> tuple[Tensor, Tensor | float]:
        """The clean image, and what is added to the next state."""
        del problem
        return prior.clean(x, x1, t), 0.0

    @property
    def draws(self) -> bool:
        """One step is a mean."""
        return self.steps > 1

    @property
    def length(self) -> int:
        """One iterate per step."""
        return self.steps
