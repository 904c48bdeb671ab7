"""DiffPIR (Zhu et al., CVPR-W 2023): denoise, move towards the measurement by a proximal step, add noise again.

    x0   = D(z, s0)
    x0*  = argmin_x ||y - A x||^2 + rho ||x - x0||^2,   rho = lam s^2 / s0^2
    z'   = T(x0*, (z - x0*) / s0, s1, tau)

The proximal step is closed where the operator has one, else conjugate gradients. As published, tau = zeta at every
step; then the samples are too narrow however many steps are taken (`transition.fresh_noise`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate
from invdiff.transition import fresh_noise, transition


@dataclass(frozen=True, kw_only=True)
class DiffPIR(DiffusionSolver[LinearOperator, GaussianNoise]):
    """Plug-and-play diffusion restoration: linear operators, Gaussian noise, no gradient through the network."""

    paper: ClassVar[str] = "Zhu et al., Denoising diffusion models for plug-and-play image restoration, CVPR-W 2023"
    advice: ClassVar[str] = "raise lam or cg_iterations"

    steps: Annotated[int, Gt(0), Doc("Number of noise levels, one network call each.")] = 12
    lam: Annotated[float, Gt(0), Doc("Trust in the prior: rho = lam s^2 / sigma^2.")] = 1.0
    zeta: Annotated[float, Ge(0), Le(1), Doc("Share of fresh noise; 0 is deterministic.")] = 1.0
    tau: Annotated[
        Literal["consistent", "constant"],
        Doc("consistent: the noise added vanishes with the step, as in DDIM; constant: as published."),
    ] = "consistent"
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps per level.")] = 8

    def iterate(
        self, problem: InverseProblem[LinearOperator, GaussianNoise], prior: Prior, rng: Rng, x: Tensor
    ) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        A, s = problem.operator, problem.noise.sigma
        for step, s0, s1 in self.levels(prior):
            x0 = prior.at(step, rng).denoise(x, x.new_full((len(x),), s0, dtype=x.real.dtype))
            # Without noise rho would vanish and leave the null space undetermined.
            rho = max(self.lam * s**2 / s0**2, 1e-7 * A.norm2)
            x0 = A.prox(problem.y, x0, rho, iterations=self.cg_iterations)
            tau = fresh_noise(self.tau, self.zeta, s0, s1)
            x = transition(x0, (x - x0) / s0, s1, tau, rng.normal("transition", step, x))
            yield Iterate(step, s0, x, x0)
