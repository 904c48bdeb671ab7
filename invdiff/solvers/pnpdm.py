"""PnP-DM (Wu et al., NeurIPS 2024): Gibbs between image x and a copy z that meets the data, coupled within rho.

    z ~ exp(-||y - A z||^2 / 2 s^2 - ||z - x||^2 / 2 rho^2)          exact, as in DAPS
    x ~ p(x_0 | x_rho = z)                                           the reverse diffusion from (z, rho) to 0

rho falls along the ladder; each level is one sweep. At a fixed rho the law of x is the posterior with the noise
s^2 + rho^2 A A^H in the place of s^2: exact as rho goes to 0, if the sweeps keep up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, ClassVar

from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.schedules import karras
from invdiff.solvers.base import DiffusionSolver, Iterate, at
from invdiff.solvers.closure import towards
from invdiff.solvers.guided import Problem, noise_of
from invdiff.solvers.samplers import Estimate, dpm2m
from invdiff.transition import fresh_noise


@dataclass(frozen=True, kw_only=True)
class PnPDM(DiffusionSolver[LinearOperator, GaussianNoise]):
    """Plug-and-play diffusion, split Gibbs: linear operators, several network calls per sweep, no gradients of it."""

    paper: ClassVar[str] = "Wu et al., Principled probabilistic imaging using diffusion models as plug-and-play priors, NeurIPS 2024"  # noqa: E501  # fmt: skip
    advice: ClassVar[str] = "raise cg_iterations or sigma_min"

    descends: ClassVar[bool] = False  # a coupling may stay

    steps: Annotated[int, Gt(0), Doc("Number of sweeps.")] = 20
    sigma_max: Annotated[
        float | None, Gt(0), Doc("Highest coupling, image scaled to [0, 1]; karras and flow. [the prior's]")
    ] = 1.0
    sigma_min: Annotated[float | None, Gt(0), Doc("Lowest coupling of the karras ladder. [the prior's]")] = 0.02
    inner: Annotated[int, Gt(0), Doc("Levels of each reverse diffusion, a network call each.")] = 5
    inner_sigma_min: Annotated[float, Gt(0), Doc("Its lowest level above 0.")] = 0.005
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps of a draw.")] = 40

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per sweep."""
        A, s, x = problem.operator, problem.noise.sigma, start.x
        for step, coupling, _ in self.levels(prior, start):
            y = problem.y + s * rng.normal("data", step, problem.y)
            centre = x + coupling * rng.normal("prior", step, x)
            z = towards(A, y, centre, s**2 / coupling**2, iterations=self.cg_iterations)
            x = self._reverse(prior.at(step, rng), z, coupling, rng, step)
            yield Iterate(step, coupling, x, z)

    def _reverse(self, prior: Prior, z: Tensor, sigma: float, rng: Rng, step: int) -> Tensor:
        """Sampling of the prior from the state z of level sigma, by DPM-Solver++."""

        def denoise(x: Tensor, _: int, s0: float, s1: float) -> Estimate:
            del s1
            x0 = prior.denoise(x, at(s0, x))
            return Estimate(x0, noise_of(x, x0, s0))

        ladder = karras(self.inner, min(self.inner_sigma_min, sigma / 2), sigma).tolist()
        levels = [(step * self.inner + i, s0, s1) for i, (s0, s1) in enumerate(pairwise(ladder))]
        *_, last = dpm2m(denoise, levels, Iterate.before(z), rng, tau=partial(fresh_noise, "consistent", 1.0))
        return last.x

    @property
    def nfe(self) -> int:
        """Calls of the network: `inner` per sweep."""
        return self.steps * self.inner
