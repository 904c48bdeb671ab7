"""DDS-3D (Chung et al., ICLR 2024): DDS on volumes, tied across slices by total variation.

    x0   = D(z, s0)                     all slices, by a prior of slices
    x0*  = one iteration of ADMM from x0 on  gamma/2 ||y - A x||^2 + lam |D_z x|_1
    e    = (z - x0) / s0

x0 is only where the iteration starts: what is not measured survives because conjugate gradients are few.

parity: as published tau = zeta at every step, and gamma is a plain number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, SigmaMax, Steps, at
from invdiff.solvers.guided import Problem, noise_of
from invdiff.solvers.samplers import Estimate, ddim
from invdiff.solvers.ztv import AxisZ, SliceTV
from invdiff.transition import fresh_noise


@dataclass(frozen=True, kw_only=True)
class DDS3D(DiffusionSolver[LinearOperator, GaussianNoise]):
    """Decomposed diffusion sampling of volumes with total variation across slices: no gradient through the network."""

    paper: ClassVar[str] = "Chung et al., Decomposed diffusion sampler for large-scale inverse problems, ICLR 2024"
    volumes: ClassVar[bool] = True
    advice: ClassVar[str] = "lower gamma or rho"

    steps: Steps = 50
    sigma_max: SigmaMax = 4.0
    gamma: Annotated[float, Gt(0), Doc("Weight of the data, in units of n / ||A||_F^2.")] = 1.0
    lam: Annotated[float, Ge(0), Doc("Weight of the total variation across slices, volume scaled to [0, 1].")] = 0.005
    rho: Annotated[float, Gt(0), Doc("Of ADMM's penalty.")] = 0.5
    cg_iterations: Annotated[int, Gt(0), Doc("M, conjugate gradient steps per level.")] = 5
    zeta: Annotated[float, Ge(0), Doc("Share of fresh noise; the paper's eta^2 is 0.7225.")] = 0.7225
    axis_z: AxisZ = 2

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        A = problem.operator
        gamma = self.gamma / A.mean_square if self.parity == "safe" else self.gamma
        towards = SliceTV(A, problem.y, self.axis_z, gamma=gamma, lam=self.lam, rho=self.rho, iterations=self.cg_iterations)  # noqa: E501  # fmt: skip
        towards.memory = start.memory
        mode: Literal["consistent", "constant"] = "consistent" if self.parity == "safe" else "constant"

        def denoise(x: Tensor, step: int, sigma: float, sigma_next: float) -> Estimate:
            del sigma_next
            x0 = prior.at(step, rng).denoise(x, at(sigma, x))
            return Estimate(towards(x0), noise_of(x, x0, sigma))

        def share(s0: float, s1: float) -> float:
            return fresh_noise(mode, self.zeta, s0, s1)

        for it in ddim(denoise, self.levels(prior, start), start, rng, tau=share):
            yield replace(it, memory=towards.memory)
