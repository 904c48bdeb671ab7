"""Plug and play (Venkatakrishnan et al. 2013): MAP estimation by splitting, a denoiser in place of the prior's step.

With f(x) = ||y - A x||^2 / (2 s^2), the denoiser at level sd and gamma = sd^2 / lam,

    pgd    x = D(x - gamma grad f(x), sd)                                        proximal gradient
    admm   x = prox_{gamma f}(v - u),   v = D(x + u, sd),   u = u + x - v
    hqs    x = prox_{gamma f}(v),       v = D(x, sd)                             half-quadratic splitting
    red    x = x - mu (grad f(x) + (x - D(x, sd)) / gamma)                       Romano et al. 2017

For a Gaussian prior pgd and admm end at the mode of the posterior, which is its mean, with the prior to the power lam;
hqs and red (at lam = 1) at the mode of another prior, wider by sd^2, so they follow the data too closely.

sd falls geometrically from sigma_max to sigma, as in DPIR (Zhang et al., PAMI 2022: hqs, lam = 0.23), which takes tens
of steps where a constant level takes hundreds. The step of pgd is at most s^2 / ||A||^2: under a stronger denoiser the
prior counts to the power sd^2 ||A||^2 / s^2. All steps are written without a division by s, which may be 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import Iterate, Solver, at
from invdiff.solvers.closure import towards

Problem = InverseProblem[LinearOperator, GaussianNoise]


@dataclass(frozen=True, kw_only=True)
class PnP(Solver[LinearOperator, GaussianNoise, Prior]):
    """Plug-and-play MAP estimation: one point, fast, with no noise added and no gradient through the network."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"
    paper: ClassVar[str] = "Venkatakrishnan et al., Plug-and-play priors for model based reconstruction, GlobalSIP 2013"
    advice: ClassVar[str] = "raise sigma, or take variant=pgd"

    variant: Annotated[
        Literal["pgd", "admm", "hqs", "red"],
        Doc("Proximal gradient, ADMM, half-quadratic splitting (DPIR), or regularisation by denoising."),
    ] = "admm"
    iterations: Annotated[int, Gt(0), Doc("Steps, one network call each.")] = 24
    sigma: Annotated[
        float | None, Gt(0), Doc("Last strength of the denoiser, image scaled to [0, 1]. [s / ||A||, the noise of y]")
    ] = None
    sigma_max: Annotated[
        float | None, Gt(0), Doc("First strength; none: that of the last step all along.")
    ] = 0.2  # fmt: skip
    lam: Annotated[float, Gt(0), Doc("Trust in the prior, a power of it: gamma = sd^2 / lam.")] = 1.0
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps of a proximal step.")] = 40

    def start(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """The direct reconstruction."""
        del prior, rng
        return problem.operator.direct(problem.y)

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per step: x, and as its clean estimate the denoised image."""
        A, s, y = problem.operator, problem.noise.sigma, problem.y
        b, x, v = A.adjoint(y), start.x, start.denoised
        u = start.memory[0] if start.memory else torch.zeros_like(x)
        for step, sd in start.rest(self.strengths(problem, prior)):
            level = prior.at(step, rng)
            rho = self.lam * s**2 / sd**2  # s^2 / gamma
            if self.variant == "pgd":
                x = v = level.denoise(x - (A.normal(x) - b) / max(rho, A.norm2), at(sd, x))
            elif self.variant == "red":
                v = level.denoise(x, at(sd, x))
                x = x - (A.normal(x) - b + rho * (x - v)) / (A.norm2 + rho)
            else:
                x = towards(A, y, v - u, rho, iterations=self.cg_iterations)
                v = level.denoise(x + u, at(sd, x))
                if self.variant == "admm":
                    u = u + x - v
            yield Iterate(step, sd, x, v, (u,) if self.variant == "admm" else ())

    def strengths(self, problem: Problem, prior: Prior) -> list[float]:
        """sd of each step, descending."""
        last = self.sigma or max(problem.noise.sigma / problem.operator.opnorm, prior.sigma_min)
        ratio = max(1.0, (self.sigma_max or last) / last)
        n = self.iterations
        return [last * ratio ** (1 - k / (n - 1)) if n > 1 else last for k in range(n)]

    @property
    def length(self) -> int:
        """One iterate per step."""
        return self.iterations
