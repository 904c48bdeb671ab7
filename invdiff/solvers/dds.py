"""DDS (Chung et al., ICLR 2024): a few conjugate gradient steps on the clean estimate, in the place of a gradient.

    x0   = D(z, s0)
    x0*  = CG_M from x0 on  (I + gamma A^H A) x = x0 + gamma A^H y        with noise
    x0*  = CG_M from x0 on  A^H A x = A^H y                               without: x0* - x0 stays in a Krylov space
    e    = (z - x0) / s0                                                  of the network, not of x0*

gamma does not change with the level: the data are followed closely, the samples vary little where there are data. It
counts in units of 1 / s_i^2 on average, so that 1 means the same for MRI and CT.

parity: as published gamma is a plain number, and tau = zeta at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.solvers.base import at
from invdiff.solvers.guided import GuidedSolver, Problem, noise_of
from invdiff.solvers.samplers import Estimate


@dataclass(frozen=True, kw_only=True)
class DDS(GuidedSolver[LinearOperator, GaussianNoise]):
    """Decomposed diffusion sampling: linear operators, no gradient through the network; made for large MRI and CT."""

    paper: ClassVar[str] = "Chung et al., Decomposed diffusion sampler for large-scale inverse problems, ICLR 2024"
    advice: ClassVar[str] = "lower gamma"

    gamma: Annotated[float, Gt(0), Doc("Weight of the data, in units of n / ||A||_F^2.")] = 1.0
    cg_iterations: Annotated[int, Gt(0), Doc("M, conjugate gradient steps per level.")] = 5

    def estimate(self, problem: Problem, prior: Prior, x: Tensor, sigma: float, sigma_next: float) -> Estimate:
        """Conjugate gradients from the denoised image; the noise is the network's."""
        del sigma_next
        x0 = prior.denoise(x, at(sigma, x))
        return Estimate(self.towards_data(problem, x0), noise_of(x, x0, sigma))

    def towards_data(self, problem: Problem, x0: Tensor) -> Tensor:
        """x0*, (B, *shape); differentiable."""
        A, rho = problem.operator, 0.0
        if problem.noise.sigma:
            rho = (A.mean_square if self.parity == "safe" else 1.0) / self.gamma
        return A.descend(problem.y, x0, rho, iterations=self.cg_iterations)
