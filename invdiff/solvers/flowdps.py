"""FlowDPS (Kim et al., ICCV 2025): a data step on the clean estimate of a flow, trusted early and less and less.

With the flow's time t = sigma / (1 + sigma), x0 = D(z, s0) and e = (z - x0) / s0:

    x0y  = data step from x0 on
    xbar = (1 - t0) x0 + t0 x0y
    z'   = xbar + s1 (sqrt(t1) e + sqrt(1 - t1) xi)

Any prior will do: a flow is its denoiser in other coordinates. The data step is one of

    prox           argmin ||y - A x||^2 / s^2 + ||(x - x0) / r||^2, r of the Gaussian closure
    gradient       `inner` steps of size step / ||A||^2 on ||y - A x||^2 / 2
    norm-gradient  `inner` steps of length about `step` along the gradient of ||A^H (y - A x)||

parity: as published above; there the prox has r = 1, the last level hardly a data step, and the share 1 - t1 of fresh
noise does not vanish with the step, so samples are too narrow. safe takes xbar = x0y, which with the prox is the
posterior denoiser where the closure is true, recomputes e from it, and lets the fresh noise vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.linalg import norm, rows
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.solvers.base import Schedule, Steps, at
from invdiff.solvers.closure import prox, radius
from invdiff.solvers.guided import GuidedSolver, Problem, noise_of
from invdiff.solvers.samplers import Estimate


@dataclass(frozen=True, kw_only=True)
class FlowDPS(GuidedSolver[LinearOperator, GaussianNoise]):
    """Flow-driven posterior sampling: linear operators, no gradient through the network."""

    paper: ClassVar[str] = "Kim et al., FlowDPS: flow-driven posterior sampling for inverse problems, ICCV 2025"
    advice: ClassVar[str] = "lower step"

    steps: Steps = 28
    schedule: Schedule = "flow"
    data_step: Annotated[
        Literal["prox", "gradient", "norm-gradient"], Doc("How the clean estimate moves towards the data.")
    ] = "prox"
    step: Annotated[float, Gt(0), Doc("gradient: in units of 1 / ||A||^2; norm-gradient: a length.")] = 1.0
    inner: Annotated[int, Gt(0), Doc("Gradient steps per level.")] = 3
    cg_iterations: Annotated[int, Gt(0), Doc("Most conjugate gradient steps of the prox.")] = 40

    def estimate(self, problem: Problem, prior: Prior, x: Tensor, sigma: float, sigma_next: float) -> Estimate:
        """The data step, and how far it is trusted."""
        del sigma_next
        x0 = prior.denoise(x, at(sigma, x))
        moved = self._data_step(problem, x0, radius(prior, sigma))
        if self.parity == "safe":
            return Estimate(moved, noise_of(x, moved, sigma))
        return Estimate(x0 + sigma / (1 + sigma) * (moved - x0), noise_of(x, x0, sigma))

    def share(self, sigma: float, sigma_next: float) -> float:
        """1 - t1 as published."""
        return super().share(sigma, sigma_next) if self.parity == "safe" else 1 / (1 + sigma_next)

    def _data_step(self, problem: Problem, x0: Tensor, r: Tensor) -> Tensor:
        A, y = problem.operator, problem.y
        if self.data_step == "prox":
            r = r if self.parity == "safe" else torch.ones(())
            return prox(A, problem.noise.sigma, y, x0, r, iterations=self.cg_iterations)
        b, x = A.adjoint(y), x0
        for _ in range(self.inner):
            g = b - A.normal(x)
            if self.data_step == "gradient":
                x = x + self.step / A.norm2 * g
            else:
                x = x + self.step * A.normal(g) / rows(norm(g).clamp_min(1e-30), g)
        return x
