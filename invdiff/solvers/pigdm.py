"""PiGDM (Song et al., ICLR 2023): the likelihood of a noisy state under the Gaussian closure, through the network.

    u    = (r^2 A A^H + s^2)^-1 (y - A x0),   x0 = D(z, s0)
    g    = (dD/dz)^T A^H u
    x0*  = x0 + a s0^2 g,   e* = (z - x0*) / s0

With s0^2 the state moves by the score of that likelihood, and for data ~ N(m, sd^2) the sampler is exact. There a = 1;
with a network it is less, where the step would go past the data (`guided.as_far_as_it_helps`).

parity: the code adds r^2 g to the next state and leaves the noise to the network, the paper sqrt(1 + s1^2) times as
much (both in variance-preserving steps, here in ours). The mean then goes to the pseudo-inverse and the spread shrinks
as steps are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.solvers.base import Steps, at
from invdiff.solvers.closure import radius, solve_y
from invdiff.solvers.guided import GuidedSolver, Problem, as_far_as_it_helps, noise_of
from invdiff.solvers.samplers import Estimate


@dataclass(frozen=True, kw_only=True)
class PiGDM(GuidedSolver[LinearOperator, GaussianNoise]):
    """Pseudo-inverse guidance: linear operators, one network call and its gradient per level."""

    paper: ClassVar[str] = "Song et al., Pseudoinverse-guided diffusion models for inverse problems, ICLR 2023"
    advice: ClassVar[str] = "lower sigma_max or data_std, or raise cg_iterations"

    steps: Steps = 40
    data_std: Annotated[
        float | None, Gt(0), Doc("Standard deviation of the data that the closure assumes. [the prior's]")
    ] = None
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps per level.")] = 20

    def estimate(self, problem: Problem, prior: Prior, x: Tensor, sigma: float, sigma_next: float) -> Estimate:
        """Move the denoised image along the gradient of the surrogate likelihood."""
        A, s, r = problem.operator, problem.noise.sigma, radius(prior, sigma, self.data_std)
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            x0 = prior.denoise(z, at(sigma, z))
        residual = problem.y - A(x0.detach())
        u = solve_y(A, s, residual, r, iterations=self.cg_iterations)
        (g,) = torch.autograd.grad(x0, z, A.adjoint(u))
        x0 = x0.detach()
        if self.parity == "safe":
            moved = as_far_as_it_helps(A, residual, x0, sigma**2 * g)
            return Estimate(moved, noise_of(x, moved, sigma))
        scale = (1 + sigma_next**2) ** 0.5 if self.parity == "paper" else 1.0
        return Estimate(x0 + scale * r**2 * g, noise_of(x, x0, sigma))
