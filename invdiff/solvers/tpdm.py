"""TPDM (Lee et al., ICCV 2023): reverse diffusion on volumes, by priors of perpendicular slices that take turns.

    z'  = a corrector step of z at s0, or a predictor step to s1        (`pc`)
    z' -= zeta grad_z ||y - A D(z, s0)||                                after each, on turns of the primary prior

Two priors of perpendicular slices share one ladder and are never mixed at one level: `PerpendicularPrior`. Even with
perfect scores the law is broader than the product of the two (docs/volumes.md).

parity: the published code drops the noise of the predictor, without a corrector a collapse of the spread, and takes the
norms of a minibatch of slices, so that zeta depends on its size. safe keeps the noise; norms are of whole volumes, one
for each sample, and zeta counts in units of sqrt(m) / ||A||, m scalars measured; of operators that are not linear, of
sqrt(m), as with paper and code. The paper's, for 2000 pulls down the ladder, is about 0.01 for thick slices; ours is
for 100 or 200. paper drops nothing, code the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Ge
from torch import Tensor

from invdiff.linalg import rows
from invdiff.noise.base import NoiseModel
from invdiff.operators.base import Operator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, SigmaMax, SigmaMin, at
from invdiff.solvers.dps import guidance, misfit
from invdiff.solvers.pc import Corrector, Snr, corrected, predicted

Problem = InverseProblem[Operator, NoiseModel]


@dataclass(frozen=True, kw_only=True)
class TPDM(DiffusionSolver[Operator, NoiseModel]):
    """Predictor, optional corrector and the gradient of the residual, on volumes with perpendicular priors."""

    paper: ClassVar[str] = "Lee et al., Improving 3D imaging with pre-trained perpendicular 2D diffusion models, ICCV 2023"  # noqa: E501  # fmt: skip
    volumes: ClassVar[bool] = True
    advice: ClassVar[str] = "lower zeta_per_sqrt_m"

    steps: Annotated[int, Ge(1), Doc("Number of noise levels; the paper uses 2000.")] = 200
    sigma_max: SigmaMax = None
    sigma_min: SigmaMin = None
    corrector: Corrector = False
    snr: Snr = 0.16
    zeta_per_sqrt_m: Annotated[
        float, Ge(0), Doc("Guidance strength in units of sqrt(m) / ||A||, m = scalars measured; more levels need less.")
    ] = 0.05

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        x = start.x
        for step, s0, s1 in self.levels(prior, start):
            level, guided = prior.at(step, rng), prior.guided(step)
            if self.corrector:
                x0, pull = self._looked_at(problem, level, x, s0, guided=guided)
                x = corrected(x, x0, s0, self.snr, rng.normal("corrector", step, x)) - pull
            x0, pull = self._looked_at(problem, level, x, s0, guided=guided)
            xi = rng.normal("predictor", step, x) if s1 and self.parity != "code" else 0.0
            x = predicted(x, x0, s0, s1, xi) - pull
            yield Iterate(step, s0, x, x0)

    def _looked_at(
        self, problem: Problem, level: Prior, x: Tensor, sigma: float, *, guided: bool
    ) -> tuple[Tensor, Tensor | float]:
        """The clean estimate, and zeta times the gradient of its residual."""
        if not guided or not self.zeta_per_sqrt_m:
            return level.denoise(x, at(sigma, x)), 0.0
        A = problem.operator
        zeta = self.zeta_per_sqrt_m * guidance(A, plain=self.parity != "safe")
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            x0 = level.denoise(z, at(sigma, z))
            towards_data, distance = misfit(problem, x0)
            (pull,) = torch.autograd.grad(x0, z, towards_data)
        return x0.detach(), pull * rows(-zeta / distance, pull)

    @property
    def nfe(self) -> int:
        """Two calls a level with the corrector."""
        return 2 * self.steps if self.corrector else self.steps
