"""Solvers that only change the clean estimate: a posterior denoiser E[x_0 | x_sigma, y], and any sampler around it.

Where a paper keeps the network's noise estimate although it moved the clean one, or draws noise that does not vanish
with the step, its samples are too narrow, whatever the network (`transition.fresh_noise`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Generic, Literal

from annotated_doc import Doc
from annotated_types import Ge, Le
from torch import Tensor

from invdiff.linalg import dot, rows
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, NoiseT, OperatorT, Steps
from invdiff.solvers.samplers import Estimate, ddim, dpm2m, heun
from invdiff.transition import Tau, fresh_noise

Problem = InverseProblem[LinearOperator, GaussianNoise]  # what most of them take


@dataclass(frozen=True, kw_only=True)
class GuidedSolver(DiffusionSolver[OperatorT, NoiseT], Generic[OperatorT, NoiseT]):
    """A posterior denoiser, and a sampler that walks down the ladder with it.

    `parity = paper` or `code` sets sampler and tau, unless they are given, to ddim and constant.
    """

    steps: Steps = 12
    sampler: Annotated[
        Literal["ddim", "dpm2m", "heun"] | None,
        Doc("ddim: first order; dpm2m: DPM-Solver++, second order at the same cost; heun: EDM's, two calls a level. "
            "[dpm2m, or as published]"),
    ] = None  # fmt: skip
    zeta: Annotated[
        float, Ge(0), Le(1), Doc("Share of fresh noise; 0 is deterministic, eta^2 in DDIM. Not for heun.")
    ] = 1.0
    tau: Annotated[
        Literal["consistent", "constant"] | None,
        Doc("consistent: the noise added vanishes with the step, as in DDIM; constant: not. Not for heun. "
            "[consistent, or as published]"),
    ] = None  # fmt: skip
    churn: Annotated[
        float, Ge(0), Le(0.4142), Doc("Share of noise that heun adds before each level; for heun alone.")
    ] = 0.0

    @abstractmethod
    def estimate(
        self, problem: InverseProblem[OperatorT, NoiseT], prior: Prior, x: Tensor, sigma: float, sigma_next: float
    ) -> Estimate:
        """Clean estimate x0* and noise estimate of the state x at one level, both (B, *shape).

        Args:
            problem: with a row for each of x.
            prior: the one of this level.
            x: the state, (B, *shape).
            sigma: its level.
            sigma_next: the level that the sampler goes to.
        """

    def iterate(
        self, problem: InverseProblem[OperatorT, NoiseT], prior: Prior, rng: Rng, start: Iterate
    ) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""

        def denoise(x: Tensor, step: int, sigma: float, sigma_next: float) -> Estimate:
            return self.estimate(problem, prior.at(step, rng), x, sigma, sigma_next)

        levels = self.levels(prior, start)
        sampler = self.sampler or ("dpm2m" if self.parity == "safe" else "ddim")
        if sampler == "heun":
            walk = heun(denoise, levels, start, rng, churn=self.churn)
        else:
            walk = (ddim if sampler == "ddim" else dpm2m)(denoise, levels, start, rng, tau=self.share)
        del start  # of volumes every tensor counts
        yield from walk

    def share(self, sigma: float, sigma_next: float) -> float:
        """The share of fresh noise in a step."""
        mode: Tau = self.tau or ("consistent" if self.parity == "safe" else "constant")
        return fresh_noise(mode, self.zeta, sigma, sigma_next)

    @property
    def nfe(self) -> int:
        """Heun takes two calls a level but the last."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps


def noise_of(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
    """The noise in the state x that the clean estimate x0 leaves: (x - x0) / sigma."""
    return x.sub(x0).div_(sigma)


def as_far_as_it_helps(
    A: LinearOperator, residual: Tensor, x0: Tensor, step: Tensor, *, rho: float = 0.0, most: float = 1.0
) -> Tensor:
    """x0 + a step with the a in [0, most] of least ||residual - a A step||^2 + rho ||a step||^2, row by row.

    For steps along the Jacobian of a denoiser, sigma^2 dD/dz: it should be a covariance, but a network's is up to a
    hundred times too large at high noise. Where it is right a = 1, or nearly.
    """
    seen = A(step)
    worth = dot(seen, seen) + (rho * dot(step, step) if rho else 0.0)
    a = (dot(residual, seen) / worth.clamp_min(1e-30)).clamp(0, most)
    return x0 + rows(a, step) * step
