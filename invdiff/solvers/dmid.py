"""DMID (Li et al., TPAMI 2024): a noisy image is the state of a diffusion process at the level of its own noise.

    z_0  = y,   sigma_0 = s                        no noise is added
    z    = a sampler's steps from s to 0
    x    = the mean over several runs              ensembling: the samples of different seeds

The published code rounds the level to one of DDPM's thousand, which misses it by up to 0.33 percent; here it is s
itself. With one step the result is E[x | y], for all seeds. With zeta = 1 the mean of many runs tends to E[x | y]
whatever the number of steps; below 1 it is drawn to y, by 7 to 9 percent at the published eta = 0.8 (zeta = 0.64).

As published, sampler = ddim, the levels fall in equal steps of sigma (of DDPM's time, which gives the same spread), and
10 of them have 0.7 of the posterior's variance, 30 have 0.9. DPM-Solver++ on EDM's ladder has all of it with 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.errors import CapabilityError
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.identity import Identity
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.schedules import karras
from invdiff.solvers.base import Iterate, Solver, at
from invdiff.solvers.samplers import Estimate, Level, ddim, dpm2m
from invdiff.transition import fresh_noise

Problem = InverseProblem[Identity, GaussianNoise]


@dataclass(frozen=True, kw_only=True)
class DMID(Solver[Identity, GaussianNoise, Prior]):
    """Denoising only: the sampler starts at y itself. One step is the posterior mean, at one network call."""

    paper: ClassVar[str] = (
        "Li et al., Stimulating diffusion model for image denoising via adaptive embedding and ensembling, TPAMI 2024"
    )

    steps: Annotated[int, Gt(0), Doc("Noise levels; 1 gives the posterior mean, more a sample.")] = 10
    sampler: Annotated[
        Literal["dpm2m", "ddim"],
        Doc("dpm2m: DPM-Solver++, second order, on EDM's ladder; ddim: as published, in equal steps."),
    ] = "dpm2m"
    zeta: Annotated[float, Ge(0), Le(1), Doc("Share of fresh noise, eta^2; the paper's is 0.64.")] = 1.0

    def start(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """The measurement."""
        del prior, rng
        return problem.y

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per level; without noise the measurement."""
        s = problem.noise.sigma
        if s == 0:
            yield Iterate(0, 0.0, start.x, start.x)
            return
        if s > prior.sigma_max:
            raise CapabilityError(
                f"the noise, {s:.3g} of an image on [0, 1], is above the prior's highest level, {prior.sigma_max:.3g}; "
                "use a solver that starts from noise: --solver diffpir"
            )

        def denoise(x: Tensor, step: int, sigma: float, sigma_next: float) -> Estimate:
            del sigma_next
            x0 = prior.at(step, rng).denoise(x, at(sigma, x))
            return Estimate(x0, (x - x0) / sigma)

        walk = dpm2m if self.sampler == "dpm2m" else ddim
        levels = self.levels(s, prior)[start.step + 1 :]
        yield from walk(denoise, levels, start, rng, tau=partial(fresh_noise, "consistent", self.zeta))

    def levels(self, s: float, prior: Prior) -> list[Level]:
        """Step number, level and next one, from s to 0."""
        n = self.steps
        ladder = [s * (1 - k / n) for k in range(n + 1)]
        if self.sampler == "dpm2m":
            ladder[1:] = karras(n, max(s / 20, min(prior.sigma_min, s / 2)), s).tolist()[1:]
        return list(zip(range(n), ladder[:-1], ladder[1:], strict=True))

    @property
    def length(self) -> int:
        """One iterate per level."""
        return self.steps
