"""DAPS (Zhang et al., CVPR 2025): at each level draw the clean image anew, then add the noise of the next.

    xh   = D(z, s0), or where a few Euler steps of the probability flow from z lead
    x0   ~ N(x0; xh, r^2) N(y; A(x0), s^2)
    z'   = x0 + s1 xi

For linear operators the draw is exact: it solves (A^H A / s^2 + 1 / r^2) x0 = A^H (y + s e1) / s^2 + (xh + r e2) / r^2.
For others it is Langevin's: x0 <- x0 - h grad + sqrt(2 h) xi, with h in units of what is stable.

parity: the paper takes xh from the flow and r = s0, which is too wide, up to twice the variance where nothing is
measured; its code doubles the precision of the data besides. safe takes the denoised image and the r of the Gaussian
closure, exact for independent voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Gt, Lt
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.linalg import norm, rows
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator, Operator
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.schedules import karras
from invdiff.solvers.base import DiffusionSolver, Iterate, Steps, at
from invdiff.solvers.closure import prox, radius

Problem = InverseProblem[Operator, GaussianNoise]


@dataclass(frozen=True, kw_only=True)
class DAPS(DiffusionSolver[Operator, GaussianNoise]):
    """Decoupled annealing: any differentiable operator, no gradient through the network."""

    paper: ClassVar[str] = "Zhang et al., Improving diffusion inverse problem solving with decoupled noise annealing, CVPR 2025"  # noqa: E501  # fmt: skip
    advice: ClassVar[str] = "lower langevin_rate, or raise sigma_min"

    steps: Steps = 50
    ode_steps: Annotated[
        int | None, Gt(0), Doc("Euler steps from the state to xh; 1 is the denoised image. [1, or 5 as published]")
    ] = None
    ode_sigma_min: Annotated[float, Gt(0), Doc("Where these steps end, as published.")] = 0.01
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps of a draw, linear operators.")] = 40
    langevin_steps: Annotated[int, Gt(0), Doc("Steps of a draw, other operators.")] = 100
    langevin_rate: Annotated[float, Gt(0), Lt(2), Doc("Their size in units of 1 / curvature; unstable from 2.")] = 0.2

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per noise level."""
        s = problem.noise.sigma / (2**0.5 if self.parity == "code" else 1.0)
        linear = isinstance(problem.operator, LinearOperator)
        if not linear and not s:
            raise ConfigError("DAPS draws by Langevin steps here and needs noise > 0; give a small one")
        draw = self._exact if linear else self._langevin
        x = start.x
        for step, s0, s1 in self.levels(prior, start):
            level = prior.at(step, rng)
            r = radius(level, s0) if self.parity == "safe" else torch.tensor(s0)
            centre = self._centre(level, x, s0)
            x0 = draw(problem, s, centre, r, rng, step)
            x = x0 + s1 * rng.normal("next", step, x)
            yield Iterate(step, s0, x, x0)

    def _centre(self, prior: Prior, x: Tensor, sigma: float) -> Tensor:
        """The denoised image, or the state after K Euler steps."""
        K = self.ode_steps or (1 if self.parity == "safe" else 5)
        if K == 1:
            return prior.denoise(x, at(sigma, x))
        nodes = karras(K + 1, min(self.ode_sigma_min, sigma / 2), sigma)[:-1].tolist()
        for s0, s1 in pairwise(nodes):
            x0 = prior.denoise(x, at(s0, x))
            x = x0 + s1 / s0 * (x - x0)
        return x

    def _exact(self, problem: Any, s: float, centre: Tensor, r: Tensor, rng: Rng, step: int) -> Tensor:  # noqa: ANN401
        y = problem.y + s * rng.normal("data", step, problem.y)
        return prox(problem.operator, s, y, centre + r * rng.normal("prior", step, centre), r,
                    iterations=self.cg_iterations)  # fmt: skip

    def _langevin(self, problem: Problem, s: float, centre: Tensor, r: Tensor, rng: Rng, step: int) -> Tensor:
        A, x = problem.operator, centre
        h = rows(self.langevin_rate / (_curvature(A, centre) / s**2 + 1 / float(r.min()) ** 2), x)
        for i in range(self.langevin_steps):
            with torch.enable_grad():
                z = x.detach().requires_grad_()
                residual = problem.y - A(z)
                (g,) = torch.autograd.grad((norm(residual) ** 2).sum(), z)
            g = g / (2 * s**2) + (x - centre) / r**2
            x = x - h * g + (2 * h).sqrt() * rng.normal("langevin", step * self.langevin_steps + i, x)
        return x

    @property
    def nfe(self) -> int:
        """Calls of the network: K per level."""
        return self.steps * (self.ode_steps or (1 if self.parity == "safe" else 5))


def _curvature(A: Operator, x: Tensor, iterations: int = 10) -> Tensor:
    """Largest eigenvalue of J^T J, J the Jacobian of A at x, of each row, (B,): power iterations from x."""
    v = x + 1e-3
    for _ in range(iterations):
        v = v / rows(norm(v).clamp_min(1e-30), v)
        _, Jv = torch.autograd.functional.jvp(A, x, v)
        _, v = torch.autograd.functional.vjp(A, x, Jv)
    return norm(v)
