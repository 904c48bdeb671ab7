"""DiffusionMBIR (Chung et al., CVPR 2023): reverse diffusion of slices, tied to each other by ADMM.

    z' = a predictor step from s0 to s1, then a corrector step at s1        (`pc`)
    z <- one iteration of ADMM from z' on  1/2 ||y - A z||^2 + lam |D_z z|_1  (`ztv`)

The iteration acts on the state itself, noise included: what is measured loses its noise at every level and follows the
data with theirs, so that samples vary only in what is not. It starts at z', the network's, and ends after M steps of
conjugate gradients, one as published; its variables d and u are kept from level to level.

parity: safe counts lam and rho in units of ||A||_F^2 / n, so that one default serves MRI and CT; as published both are
plain numbers. The published code takes the corrector's score at s0, the level that the predictor has left, and the
first slice for the neighbour of the last: code does the former. Its last step for CT, one of SIRT, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_doc import Doc
from annotated_types import Ge, Gt

from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, SigmaMax, at
from invdiff.solvers.guided import Problem
from invdiff.solvers.pc import Corrector, Snr, corrected, predicted
from invdiff.solvers.ztv import AxisZ, SliceTV


@dataclass(frozen=True, kw_only=True)
class DiffusionMBIR(DiffusionSolver[LinearOperator, GaussianNoise]):
    """Predictor, optional corrector and total variation across slices: volumes, no gradient through the network."""

    paper: ClassVar[str] = "Chung et al., Solving 3D inverse problems using pre-trained 2D diffusion models, CVPR 2023"
    volumes: ClassVar[bool] = True
    advice: ClassVar[str] = "raise steps or lower rho"

    steps: Annotated[int, Ge(1), Doc("Number of noise levels; the paper uses 2000.")] = 100
    sigma_max: SigmaMax = 4.0
    corrector: Corrector = False
    snr: Snr = 0.16
    lam: Annotated[float, Ge(0), Doc("Weight of the total variation across slices, in units of ||A||_F^2 / n.")] = 0.01
    rho: Annotated[float, Gt(0), Doc("Of ADMM's penalty, in the same units.")] = 0.5
    cg_iterations: Annotated[int, Gt(0), Doc("M, conjugate gradient steps per level; the paper uses 1.")] = 1
    axis_z: AxisZ = 2

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        A = problem.operator
        gamma = 1 / A.mean_square if self.parity == "safe" else 1.0  # ADMM of the objective divided by ||A||_F^2 / n
        towards = SliceTV(A, problem.y, self.axis_z, gamma=gamma, lam=self.lam, rho=self.rho, iterations=self.cg_iterations)  # noqa: E501  # fmt: skip
        x, towards.memory = start.x, start.memory
        for step, s0, s1 in self.levels(prior, start):
            level = prior.at(step, rng)
            x0 = level.denoise(x, at(s0, x))
            x = predicted(x, x0, s0, s1, rng.normal("predictor", step, x) if s1 else 0.0)
            if self.corrector and s1:
                sigma = s0 if self.parity == "code" else s1
                xi = rng.normal("corrector", step, x)
                x = corrected(x, level.denoise(x, at(sigma, x)), sigma, self.snr, xi)
            x = towards(x)
            yield Iterate(step, s0, x, x0, towards.memory)

    @property
    def nfe(self) -> int:
        """Two calls a level with the corrector, which the last does not have."""
        return 2 * self.steps - 1 if self.corrector else self.steps
