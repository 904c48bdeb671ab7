"""DiffPIR (Zhu et al., CVPR-W 2023): denoise, move towards the measurement by a proximal step, add noise again.

    x0   = D(z, s0)
    x0*  = argmin_x ||y - A x||^2 + rho ||x - x0||^2,   rho = lam s^2 / s0^2
    e*   = (z - x0*) / s0

The proximal step is closed where the operator has one, else conjugate gradients.

parity: as published tau = zeta at every step and the sampler is of first order; twelve levels of the second are worth
a hundred of it. The code takes no proximal step at the last level, and its lam is four times ours: it counts the noise
of y in an image on [0, 1], that of the state in one on [-1, 1].
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
from invdiff.solvers.closure import towards
from invdiff.solvers.guided import GuidedSolver, Problem, noise_of
from invdiff.solvers.samplers import Estimate


@dataclass(frozen=True, kw_only=True)
class DiffPIR(GuidedSolver[LinearOperator, GaussianNoise]):
    """Plug-and-play diffusion restoration: linear operators, Gaussian noise, no gradient through the network."""

    paper: ClassVar[str] = "Zhu et al., Denoising diffusion models for plug-and-play image restoration, CVPR-W 2023"
    advice: ClassVar[str] = "raise lam or cg_iterations"

    lam: Annotated[float, Gt(0), Doc("Trust in the prior: rho = lam s^2 / sigma^2.")] = 1.0
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps per level.")] = 40

    def estimate(self, problem: Problem, prior: Prior, x: Tensor, sigma: float, sigma_next: float) -> Estimate:
        """The proximal step from the denoised image."""
        A, s = problem.operator, problem.noise.sigma
        x0 = prior.denoise(x, at(sigma, x))
        if self.parity == "code" and sigma_next == 0:
            return Estimate(x0, noise_of(x, x0, sigma))
        lam = self.lam / 4 if self.parity == "code" else self.lam
        x0 = towards(A, problem.y, x0, lam * s**2 / sigma**2, iterations=self.cg_iterations)
        return Estimate(x0, noise_of(x, x0, sigma))
