"""DPS (Chung et al., ICLR 2023, Alg. 1): ancestral steps, each pulled towards the measurement.

    x0   = D(z, s0)
    z'   = T(x0, (z - x0) / s0, s1, tau = 1 - s1^2 / s0^2)
    z'  -= zeta sqrt((1 + s0^2)(1 + s1^2)) grad_z ||y - A(x0)||

The root turns the paper's step, which is taken in variance-preserving coordinates x = z / sqrt(1 + s^2), into ours.
The norm is one per sample: in the published code it runs over the whole batch, so that samples depend on each other.

parity: the paper writes the pull as zeta' / ||r|| times the gradient of ||r||^2, which is 2 zeta' grad ||r||; `paper`
takes zeta for that zeta', of which the code's and ours are the double.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Ge
from torch import Tensor

from invdiff.linalg import norm, rows
from invdiff.noise.base import NoiseModel
from invdiff.operators.base import LinearOperator, Operator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate, SigmaMax, SigmaMin, at
from invdiff.transition import ancestral


@dataclass(frozen=True, kw_only=True)
class DPS(DiffusionSolver[Operator, NoiseModel]):
    """Diffusion posterior sampling: any differentiable operator, one network call and its gradient per step.

    Its law is not the posterior: the pull ignores how uncertain x0 is, and ends in a limit cycle of radius about
    zeta / 2 around the measurement. Useful values of zeta grow with the square root of the number m of measured
    scalars, hence the default; and with one over the norm of A, for a linear one.
    """

    paper: ClassVar[str] = "Chung et al., Diffusion posterior sampling for general noisy inverse problems, ICLR 2023"
    advice: ClassVar[str] = "lower zeta or zeta_per_sqrt_m"

    steps: Annotated[int, Ge(1), Doc("Number of noise levels; the paper uses 1000.")] = 200
    sigma_max: SigmaMax = None
    sigma_min: SigmaMin = None
    zeta_per_sqrt_m: Annotated[
        float, Ge(0), Doc("Guidance strength in units of sqrt(m) / ||A||, m = scalars measured; sqrt(m) if not safe.")
    ] = 0.02
    zeta: Annotated[float | None, Ge(0), Doc("Guidance strength of Alg. 1; replaces zeta_per_sqrt_m.")] = None

    def iterate(
        self, problem: InverseProblem[Operator, NoiseModel], prior: Prior, rng: Rng, start: Iterate
    ) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        unit = guidance(problem.operator, plain=self.parity != "safe")
        zeta = self.zeta_per_sqrt_m * unit if self.zeta is None else self.zeta
        zeta *= 2 if self.parity == "paper" else 1
        x = start.x
        for step, s0, s1 in self.levels(prior, start):
            level = prior.at(step, rng)
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                x0 = level.denoise(x, at(s0, x))
                towards_data, distance = misfit(problem, x0)
                (pull,) = torch.autograd.grad(x0, x, towards_data)
            x, x0 = x.detach(), x0.detach()
            x = ancestral(x0, x, s0, s1, rng.normal("ancestral", step, x))
            x = x.addcdiv_(pull, rows(distance, x), value=zeta * math.sqrt((1 + s0**2) * (1 + s1**2)))
            yield Iterate(step, s0, x, x0)


def guidance(A: Operator, *, plain: bool) -> float:
    """The unit of guidance strengths: sqrt(m) / ||A||, so that a step is as long for CT as for MRI.

    Plain, or where A is not linear and has no norm: sqrt(m).
    """
    norm = A.opnorm if isinstance(A, LinearOperator) and not plain else 1.0
    return math.sqrt(A.range.reals) / norm


def misfit(problem: InverseProblem[Operator, NoiseModel], x0: Tensor) -> tuple[Tensor, Tensor]:
    """A'^H (y - A(x0)) and ||y - A(x0)||, (B, *shape) and (B,): grad ||y - A(x0)|| is minus the one over the other."""
    A = problem.operator
    if isinstance(A, LinearOperator):  # its adjoint is cheaper than autograd
        residual = problem.y - A(x0.detach())
        towards_data = A.adjoint(residual)
    else:
        with torch.enable_grad():
            u = x0.detach().requires_grad_()
            Au = A(u)
            residual = problem.y - Au.detach()
            (towards_data,) = torch.autograd.grad(Au, u, residual)
    return towards_data, norm(residual).clamp_min(1e-30)
