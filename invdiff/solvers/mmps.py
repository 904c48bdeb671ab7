"""MMPS (Rozet et al., NeurIPS 2024): PiGDM with the true covariance of x_0 given the state.

    P    = s0^2 dD/dz                              (Tweedie's second order: Cov[x_0 | z])
    u    = (A P A^H + s^2)^-1 (y - A x0),   x0 = D(z, s0)
    x0*  = x0 + a P A^H u,   e* = (z - x0*) / s0

P is symmetric, so one product with it is one gradient through the network, and u comes by conjugate gradients in the
space of measurements, after a first step along PiGDM's u: (r^2 A A^H + s^2)^-1 (y - A x0), which takes no network. For
any Gaussian prior x0* = E[x_0 | z, y] and a = 1: the sampler is exact but for the steps.

The Jacobian of a network is neither symmetric nor positive at high noise: a row of the gradients ends where it finds
that, and a, at most 1, where the step would go past the data (`guided.as_far_as_it_helps`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.linalg import cg_steps, dot, rows
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.solvers.base import SigmaMax, Steps, at
from invdiff.solvers.closure import LEAST, radius, solve_y
from invdiff.solvers.guided import GuidedSolver, Problem, as_far_as_it_helps, noise_of
from invdiff.solvers.samplers import Estimate


@dataclass(frozen=True, kw_only=True)
class MMPS(GuidedSolver[LinearOperator, GaussianNoise]):
    """Moment-matching posterior sampling: linear operators, a network call and several gradients per level."""

    paper: ClassVar[str] = "Rozet et al., Learning diffusion priors from observations by EM, NeurIPS 2024"
    advice: ClassVar[str] = "lower iterations or sigma_max"

    steps: Steps = 24
    sigma_max: SigmaMax = 1.0
    iterations: Annotated[int, Gt(0), Doc("Steps towards u per level, one gradient of the network each.")] = 3
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps of the first u, without the network.")] = 40

    def estimate(self, problem: Problem, prior: Prior, x: Tensor, sigma: float, sigma_next: float) -> Estimate:
        """The mean of x_0 given state and measurement, both moments of x_0 given the state being the network's."""
        del sigma_next
        A = problem.operator
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            x0 = prior.denoise(z, at(sigma, z))

        PAHv: list[Tensor] = []

        def covariance(v: Tensor) -> Tensor:
            """(A P A^H + s^2) v, by one gradient of the network."""
            PAHv[:] = [sigma**2 * torch.autograd.grad(x0, z, A.adjoint(v), retain_graph=True)[0]]
            return A(PAHv[0]) + noise2 * v

        noise2 = max(problem.noise.sigma**2, LEAST * A.norm2 * sigma**2)
        residual = problem.y - A(x0.detach())
        u = solve_y(A, problem.noise.sigma, residual, radius(prior, sigma), iterations=self.cg_iterations)
        step, floor = torch.zeros_like(x), 1e-12 * dot(residual, residual)
        for alpha, _ in cg_steps(covariance, residual, first=u, floor=floor, iterations=self.iterations):
            step = torch.addcmul(step, rows(alpha, step), PAHv[0])  # as u grows: no gradient is taken twice
        moved = as_far_as_it_helps(A, residual, x0.detach(), step)
        return Estimate(moved, noise_of(x, moved, sigma))
