"""TPDM (Lee et al., ICCV 2023): reverse diffusion on volumes, by priors of perpendicular slices that take turns.

    z'  = a corrector step of z at s0, or a predictor step to s1        (`pc`)
    z' -= zeta grad_z ||y - A D(z, s0)||                                after each, on turns of the primary prior

Two priors of perpendicular slices share one ladder and are never mixed at one level: `PerpendicularPrior`. Even with
perfect scores the law is broader than the product of the two (docs/volumes.md).

parity: as published, turns of the auxiliary prior do not see the data, and a pull is as long as zeta says, however near
the data are: it ends in a limit cycle around them, wide where the singular values of A differ much, as in tomography.
safe sees the data at every level and, of a linear A, needs no zeta: both steps are of the posterior's estimate

    x0* = D + a d,    d = grad_z <D(z, s0), delta>,    a = argmin ||y - A (D + a d)||^2 / s^2 + ||a d||^2 / s0^2,
    delta = argmin ||y - A (D + delta)||^2 / s^2 + ||delta||^2 / s0^2,    by a few conjugate gradients,

along the direction of `pigdm`, which takes the voxels for independent, and as far as fits; s is the noise of y, 0 where
it is not Gaussian.

A zeta counts, in safe, in units of sqrt(m) / ||A||, m scalars measured; of operators that are not linear, of sqrt(m),
as with paper and code. The paper's, for 2000 pulls down the ladder, is about 0.01 for thick slices; ours is for 100 or
200. The published code also drops the noise of the predictor, without a corrector a collapse of the spread, and takes
the norms of a minibatch of slices, so that zeta depends on its size: norms are of whole volumes here, one for each
sample. paper drops nothing, code the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff.linalg import rows
from invdiff.noise.base import NoiseModel
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator, Operator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, SigmaMax, SigmaMin, at
from invdiff.solvers.closure import towards
from invdiff.solvers.dps import guidance, misfit
from invdiff.solvers.guided import as_far_as_it_helps
from invdiff.solvers.pc import Corrector, Snr, corrected, predicted

Problem = InverseProblem[Operator, NoiseModel]


@dataclass(frozen=True, kw_only=True)
class TPDM(DiffusionSolver[Operator, NoiseModel]):
    """Predictor, optional corrector and the gradient of the residual, on volumes with perpendicular priors."""

    paper: ClassVar[str] = "Lee et al., Improving 3D imaging with pre-trained perpendicular 2D diffusion models, ICCV 2023"  # noqa: E501  # fmt: skip
    volumes: ClassVar[bool] = True
    advice: ClassVar[str] = "lower zeta_per_sqrt_m, or sigma_max where it is not given"

    steps: Annotated[int, Ge(1), Doc("Number of noise levels; the paper uses 2000.")] = 200
    sigma_max: SigmaMax = None
    sigma_min: SigmaMin = None
    corrector: Corrector = False
    snr: Snr = 0.16
    zeta_per_sqrt_m: Annotated[
        float | None,
        Ge(0),
        Doc("Guidance strength in units of sqrt(m) / ||A||, m = scalars measured; more levels need less. [none: found "
            "at each level where A is linear, else, and as published, 0.05]"),
    ] = None  # fmt: skip
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps per level, where no zeta is given.")] = 10

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        x = start.x
        for step, s0, s1 in self.levels(prior, start):
            level, guided = prior.at(step, rng), self.parity == "safe" or prior.guided(step)
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
        """The clean estimate, which may have seen the data, and zeta times the gradient of its residual."""
        A, zeta, safe = problem.operator, self.zeta_per_sqrt_m, self.parity == "safe"
        if not guided or zeta == 0:
            return level.denoise(x, at(sigma, x)), 0.0
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            x0 = level.denoise(z, at(sigma, z))
        if safe and zeta is None and isinstance(A, LinearOperator):
            return _posterior(A, problem, x0, z, sigma, self.cg_iterations), 0.0
        towards_data, distance = misfit(problem, x0)
        (d,) = torch.autograd.grad(x0, z, towards_data)
        length = (0.05 if zeta is None else zeta) * guidance(A, plain=not safe)
        return x0.detach(), d * rows(-length / distance, d)

    @property
    def nfe(self) -> int:
        """Two calls a level with the corrector."""
        return 2 * self.steps if self.corrector else self.steps


def _posterior(A: LinearOperator, problem: Problem, x0: Tensor, z: Tensor, sigma: float, iterations: int) -> Tensor:
    """x0* of the header, from x0 = D(z) with its graph."""
    s = problem.noise.sigma if isinstance(problem.noise, GaussianNoise) else 0.0
    D, rho = x0.detach(), (s / sigma) ** 2
    delta = towards(A, problem.y, D, rho, iterations=iterations) - D
    (d,) = torch.autograd.grad(x0, z, delta)
    return as_far_as_it_helps(A, problem.y - A(D), D, d, rho=rho, most=math.inf)
