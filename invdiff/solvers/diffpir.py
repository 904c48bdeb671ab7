"""DiffPIR (Zhu et al., CVPR-W 2023): denoise, move towards the measurement by a proximal step, add noise again.

    x0   = D(z, s0)
    x0*  = argmin_x ||y - A x||^2 + rho ||x - x0||^2,   rho = lam s^2 / s0^2
    z'   = T(x0*, (z - x0*) / s0, s1, tau)

The proximal step is closed where the operator has one, else conjugate gradients. As published, tau = zeta at every
step; then the samples are too narrow however many steps are taken (`transition.fresh_noise`).

`order` = 2 puts the extrapolation of DPM-Solver++ (2M; Lu et al. 2022) in the place of x0* in the transition,

    x0* + (x0* - x0*_before) log(s0 / s1) / (2 log(s_before / s0)),

at no further network call. Twelve levels of it are worth a hundred of the published first order.
"""

from __future__ import annotations

import math
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
    sigma_max: Annotated[float | None, Gt(0), Doc("Highest level of the karras ladder, image scaled to [0, 1].")] = 4.0
    sigma_min: Annotated[float | None, Gt(0), Doc("Lowest level above 0 of the karras ladder.")] = 0.007
    lam: Annotated[float, Gt(0), Doc("Trust in the prior: rho = lam s^2 / sigma^2.")] = 1.0
    zeta: Annotated[float, Ge(0), Le(1), Doc("Share of fresh noise; 0 is deterministic.")] = 1.0
    tau: Annotated[
        Literal["consistent", "constant"],
        Doc("consistent: the noise added vanishes with the step, as in DDIM; constant: as published."),
    ] = "consistent"
    order: Annotated[
        Literal[1, 2], Doc("1: as published; 2: extrapolates the clean estimate, far fewer levels are needed.")
    ] = 2
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps per level.")] = 8

    def iterate(
        self, problem: InverseProblem[LinearOperator, GaussianNoise], prior: Prior, rng: Rng, x: Tensor
    ) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        A, s = problem.operator, problem.noise.sigma
        before: tuple[float, Tensor] | None = None
        for step, s0, s1 in self.levels(prior):
            x0 = prior.at(step, rng).denoise(x, x.new_full((len(x),), s0, dtype=x.real.dtype))
            # Without noise rho would vanish and leave the null space undetermined.
            rho = max(self.lam * s**2 / s0**2, 1e-7 * A.norm2)
            x0 = A.prox(problem.y, x0, rho, iterations=self.cg_iterations)
            tau = fresh_noise(self.tau, self.zeta, s0, s1)
            target = extrapolate(before, s0, s1, x0) if self.order == 2 else x0
            before = s0, x0
            x = transition(target, (x - target) / s0, s1, tau, rng.normal("transition", step, x))
            yield Iterate(step, s0, x, x0)


def extrapolate(before: tuple[float, Tensor] | None, s0: float, s1: float, x0: Tensor) -> Tensor:
    """The clean estimate half a step ahead, linear in log sigma; `x0` itself at the first and the last level."""
    if before is None or s1 == 0:
        return x0
    s_before, x0_before = before
    return x0 + (x0 - x0_before) * (math.log(s0 / s1) / (2 * math.log(s_before / s0)))
