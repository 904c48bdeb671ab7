"""CDDB (Chung et al., NeurIPS 2023): I2SB whose clean image is corrected by the data at each step.

    d    = step / ||A||^2 A^H (y - A x0)                                   data = grad
    d    = CG_M from x0 on  A^H A x = A^H y,  less x0                      data = cg
    d    = argmin ||y - A x||^2 + rho ||x - x0||^2,  less x0               data = prox
    x0*  = x0 + u d
    x   <- I2SB's - u step / ||A||^2 grad_x ||y - A x0(x)||^2 / 2           deep: through the network

parity: in the paper u = 1, and a mask's residual vanishes with the noise in it. safe takes the largest u <= 1 that
leaves ||y - A x0*||^2 >= m s^2, so that chi2 is not pushed below 1: noise is never fitted. The code's step 1 is 2 in
these units where ||A|| = 1, which turns the residual over instead of taking it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Gt, Lt
from torch import Tensor

from invdiff.bridges.base import Bridge
from invdiff.linalg import cg, dot, rows
from invdiff.solvers.closure import towards
from invdiff.solvers.i2sb import I2SB, Problem


@dataclass(frozen=True, kw_only=True)
class CDDB(I2SB):
    """Consistent direct diffusion bridge: no more network calls than I2SB, one correction by the data each.

    One step (`--steps 1`) is the posterior mean of the bridge and is not corrected.
    """

    paper: ClassVar[str] = "Chung et al., Direct diffusion bridge using data consistency for inverse problems, NeurIPS 2023"  # noqa: E501  # fmt: skip
    advice: ClassVar[str] = "lower step, or use a bridge that was trained for this acquisition"

    data: Annotated[Literal["grad", "cg", "prox"], Doc("How the clean image is corrected.")] = "cg"
    step: Annotated[float, Gt(0), Lt(2), Doc("Of the gradient, in units of 1 / ||A||^2; from 2 on it diverges.")] = 1.0
    cg_iterations: Annotated[int, Gt(0), Doc("M, conjugate gradient steps; prox: at most.")] = 5
    rho: Annotated[float, Gt(0), Doc("Weight of the bridge's image, prox, in units of ||A||_F^2 / n.")] = 1.0
    deep: Annotated[bool, Doc("Correct the state by the gradient through the network instead.")] = False

    def estimate(self, problem: Problem, prior: Bridge, x: Tensor, x1: Tensor, t: int) -> tuple[Tensor, Tensor | float]:
        """The corrected clean image; or as it is, and what the network's gradient adds to the next state."""
        if self.steps == 1:
            return super().estimate(problem, prior, x, x1, t)
        if self.deep:
            return self._deep(problem, prior, x, x1, t)
        return self.towards_data(problem, prior.clean(x, x1, t)), 0.0

    def towards_data(self, problem: Problem, x0: Tensor) -> Tensor:
        """x0*, (B, *shape)."""
        A, y = problem.operator, problem.y
        r = y - A(x0)
        if self.data == "prox":
            d = towards(A, y, x0, self.rho * A.mean_square, iterations=self.cg_iterations) - x0
        elif self.data == "cg":
            d = cg(A.normal, A.adjoint(r), iterations=self.cg_iterations)
        else:
            d = self._size(A.norm2) * A.adjoint(r)
        return x0 + (rows(down_to_noise(r, A(d), problem), d) * d if self.parity == "safe" else d)

    def _deep(self, problem: Problem, prior: Bridge, x: Tensor, x1: Tensor, t: int) -> tuple[Tensor, Tensor]:
        A = problem.operator
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            x0 = prior.clean(z, x1, t)
        r = problem.y - A(x0.detach())
        (g,) = torch.autograd.grad(x0, z, A.adjoint(r))
        g = self._size(A.norm2) * g
        return x0.detach(), rows(down_to_noise(r, r, problem), g) * g if self.parity == "safe" else g

    def _size(self, norm2: float) -> float:
        return (2 * self.step if self.parity == "code" else self.step) / norm2


def down_to_noise(r: Tensor, q: Tensor, problem: Problem) -> Tensor:
    """The largest u in [0, 1] with ||r - u q||^2 >= m s^2, for each row: (B,).

    Args:
        r: residuals, (B, *range).
        q: what a whole step takes off them.
        problem: for m and s.
    """
    noise = problem.operator.range.reals * problem.noise.sigma**2
    a, b, c = dot(q, q), dot(r, q), dot(r, r) - noise
    # The smaller root of a u^2 - 2 b u + c, written without a difference; none is real where noise is never reached.
    root = c / (b + (b**2 - a * c).clamp_min(0).sqrt())
    return torch.where((b**2 < a * c) | (b <= 0), (c > 0).to(a), root.clamp(0, 1))
