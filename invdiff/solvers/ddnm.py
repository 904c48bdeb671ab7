"""DDNM (Wang et al., ICLR 2023): what was measured replaces the range of the clean estimate; the null space is free.

    x0   = D(z, s0)
    x0*  = x0 + lam A^+ (y - A x0)
    n    = s1 (sqrt(1 - tau) e + sqrt(tau) xi)
    z'   = x0* + n - (1 - k) A^+ A n,     k^2 = 1 - (lam s' / s1)^2

Without noise lam = k = 1 and the output fits y. With noise lam = min(1, s1 sqrt(1 - zeta) / s') holds back data whose
noise exceeds the level, and in the range the noise that A^+ y brings takes the place of as much of n. s' = s / ||A|| is
right where all singular values are near ||A|| (masks, MRI); for others there is `ddnmplus`.

Time travel (RePaint): after every `travel` levels the run goes back as many, with fresh noise on the network's
estimate, `repeats` times in all.

parity: as published e is the network's and tau = zeta at every step; with noise lam = min(1, s1 / s') and all of n,
that of the null space too, shrinks by k. safe recomputes e from x0*, lets tau vanish with the step, and shrinks what
lies in the range only. The code's `--simplified` noise is wrong (it takes abar for its root) and is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, at
from invdiff.solvers.guided import Problem
from invdiff.transition import fresh_noise, transition


@dataclass(frozen=True, kw_only=True)
class DDNM(DiffusionSolver[LinearOperator, GaussianNoise]):
    """Denoising diffusion null-space model: linear operators, one network call and one pseudo-inverse per level."""

    paper: ClassVar[str] = (
        "Wang et al., Zero-shot image restoration using denoising diffusion null-space model, ICLR 2023"
    )
    advice: ClassVar[str] = "lower cg_iterations, which regularises the pseudo-inverse"

    steps: Annotated[int, Ge(2), Doc("Number of noise levels; with noise, the last of them takes no data.")] = 100
    zeta: Annotated[float, Ge(0), Le(1), Doc("Share of fresh noise; the paper's eta^2 is 0.7225.")] = 0.7225
    cg_iterations: Annotated[int, Gt(0), Doc("Most steps of a pseudo-inverse that has no closed form.")] = 10
    travel: Annotated[int, Gt(0), Doc("Levels between two returns.")] = 1
    repeats: Annotated[int, Gt(0), Doc("How often these levels are walked; 1: no time travel.")] = 1

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per visit of a level."""
        A, safe = problem.operator, self.parity == "safe"
        noise = problem.noise.sigma / A.opnorm
        ladder = self.sigmas(prior).tolist()
        path, x = self._path(), start.x
        x0 = start.memory[0] if start.memory else x
        for visit, step in start.rest(path):
            s0, s1 = ladder[step], ladder[step + 1]
            if visit and step <= path[visit - 1]:
                x = x0 + s0 * rng.normal("travel", visit, x)
            x0 = prior.at(step, rng).denoise(x, at(s0, x))
            lam = min(1.0, s1 * (1 - self.zeta if safe else 1.0) ** 0.5 / noise) if noise else 1.0
            moved = x0 + lam * A.pinv(problem.y - A(x0), iterations=self.cg_iterations)
            e = (x - (moved if safe else x0)) / s0
            tau = fresh_noise("consistent" if safe else "constant", self.zeta, s0, s1)
            n = transition(torch.zeros_like(x), e, s1, tau, rng.normal("transition", visit, x))
            k = max(1 - (lam * noise / s1) ** 2, 0.0) ** 0.5 if s1 else 1.0
            if k < 1:
                n = n - (1 - k) * A.pinv(A(n), iterations=self.cg_iterations) if safe else k * n
            x = moved + n
            yield Iterate(visit, s0, x, moved, (x0,) if self.repeats > 1 else ())

    def _path(self) -> list[int]:
        """The levels in the order of their visits."""
        path: list[int] = []
        for first in range(0, self.steps, self.travel):
            path += [*range(first, min(first + self.travel, self.steps))] * self.repeats
        return path

    @property
    def length(self) -> int:
        """Levels times visits."""
        return self.steps * self.repeats
