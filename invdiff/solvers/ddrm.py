"""DDRM (Kawar et al., NeurIPS 2022): every singular mode of the operator on its own.

In the basis V of the decomposition A = U S V^H, with xb = V^H D(z, s0), yb = S^-1 U^H y and its noise sy = s / s_i:

    not measured     zb' = xb + s1 (sqrt(1 - eta^2) eb + eta xi),              eb = (zb - xb) / s0
    s1 <  sy         zb' = xb + s1 (sqrt(1 - eta^2) (yb - xb) / sy + eta xi)
    s1 >= sy         zb' = (1 - eta_b) xb + eta_b yb + sqrt(s1^2 - sy^2 eta_b^2) xi

and at the start zb ~ N(yb, sigma_T^2 - sy^2) where that is known, N(0, sigma_T^2) elsewhere. A level below the noise of
a mode counts y again at every step: more steps make the result worse, too near the data and too narrow. Twenty to fifty
are right. Without noise the last level leaves y to rounding of the lowest sigma.

parity: as published; safe lets eta's noise vanish with the step in the modes that are not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import SVDOperator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, at
from invdiff.transition import fresh_noise

Problem = InverseProblem[SVDOperator, GaussianNoise]


@dataclass(frozen=True, kw_only=True)
class DDRM(DiffusionSolver[SVDOperator, GaussianNoise]):
    """Denoising diffusion restoration: operators with a singular value decomposition, one network call per level."""

    paper: ClassVar[str] = "Kawar et al., Denoising diffusion restoration models, NeurIPS 2022"
    advice: ClassVar[str] = "raise sigma_max above the noise of the weakest mode"

    steps: Annotated[int, Gt(0), Doc("Number of noise levels; above 50 the result gets worse.")] = 20
    eta: Annotated[float, Ge(0), Le(1), Doc("Fresh noise in modes not measured, or below their noise.")] = 0.85
    eta_b: Annotated[float, Ge(0), Le(1), Doc("Trust in the data of modes above their noise.")] = 1.0

    def start(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """Around the data where they are known, around the prior's mean elsewhere."""
        A = problem.operator
        yb, sy = self._data(problem)
        top = float(self.sigmas(prior)[0])
        z = super().start(problem, prior, rng)
        xi = rng.normal("modes", 0, z)
        known = sy <= top
        return A.V(torch.where(known, yb + (top**2 - sy**2).clamp_min(0).sqrt() * xi, A.VH(z)))

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        A = problem.operator
        yb, sy = self._data(problem)
        free, drawn = torch.isinf(sy).to(yb.dtype), (sy * self.eta_b) ** 2
        per_noise = torch.where(sy > 0, 1 / sy, 0.0)
        x = start.x
        for step, s0, s1 in self.levels(prior, start):
            x0 = prior.at(step, rng).denoise(x, at(s0, x))
            xb, zb, xi = A.VH(x0), A.VH(x), rng.normal("transition", step, x)
            tau = fresh_noise("consistent" if self.parity == "safe" else "constant", self.eta**2, s0, s1)
            below = (sy > s1).to(yb.dtype)
            # Of each mode: how far it goes to the data, how much of its noise it keeps, how much is fresh.
            to_data = _choose(below, per_noise * (s1 * (1 - self.eta**2) ** 0.5), self.eta_b)
            kept = free * (s1 * (1 - tau) ** 0.5 / s0)
            fresh = _choose(below, self.eta * s1, (s1**2 - drawn).clamp_min_(0).sqrt_())
            fresh += free * (s1 * (tau**0.5 - self.eta))
            zb = xb + to_data * (yb - xb) + kept * (zb - xb) + fresh * xi
            x = A.V(zb)
            yield Iterate(step, s0, x, x0)

    @staticmethod
    def _data(problem: Problem) -> tuple[Tensor, Tensor]:
        """Data and their noise of each mode: S^-1 U^H y, and s / s_i, infinite where nothing is measured."""
        A = problem.operator
        s = A.singular_values
        measured = s > 1e-6 * s.max()
        yb = torch.where(measured, A.UH(problem.y) / s.clamp_min(1e-30), 0.0)
        return yb, torch.where(measured, problem.noise.sigma / s.clamp_min(1e-30), torch.inf)


def _choose(where: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """a where 1, b where 0: products of small images are ten times as fast as torch.where."""
    return where * (a - b) + b
