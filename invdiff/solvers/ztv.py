"""Total variation across slices by ADMM, one iteration per noise level: min gamma/2 ||y - A x||^2 + lam |D x|_1.

    x <- CG_M from x on  (gamma A^H A + rho D^T D) x = gamma A^H y + rho D^T (d - u)
    d <- soft(D x + u, lam / rho),     u <- u + D x - d

d and u are kept from level to level. D is the difference of neighbouring slices; the last has none after it. The
published codes take the first slice for the one after the last, which ties the ends of an anatomy together.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_doc import Doc
from torch import Tensor

from invdiff.linalg import cg
from invdiff.operators.base import LinearOperator

AxisZ = Annotated[Literal[0, 1, 2], Doc("Stored axis that counts the slices.")]


class SliceTV:
    """The state d, u of one run, its `memory`, and its iteration.

    Args:
        A: the operator.
        y: measurements, (B, *range.shape).
        axis: of the volume that counts the slices: 0, 1 or 2.
        gamma: weight of the data.
        lam: weight of the total variation.
        rho: of ADMM's penalty.
        iterations: M, conjugate gradient steps.
    """

    def __init__(
        self, A: LinearOperator, y: Tensor, axis: int, *, gamma: float, lam: float, rho: float, iterations: int
    ) -> None:
        self.A, self.axis, self.gamma, self.lam, self.rho, self.iterations = A, 2 + axis, gamma, lam, rho, iterations
        self.b = gamma * A.adjoint(y)
        self.memory: tuple[Tensor, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """One iteration from x, (B, C, X, Y, Z) -> the same."""
        d, u = self.memory or (x.new_zeros(()), x.new_zeros(()))
        right = self.b + self.rho * self.back(d - u) if self.memory else self.b
        x = x + cg(self._normal, right - self._normal(x), iterations=self.iterations)
        step = self.difference(x) + u
        d = torch.nn.functional.softshrink(step, self.lam / self.rho)
        self.memory = (d, step - d)
        return x

    def difference(self, x: Tensor) -> Tensor:
        """D x: each slice less the one before, one slice fewer."""
        return x.diff(dim=self.axis)

    def back(self, v: Tensor) -> Tensor:
        """D^T v."""
        zero = torch.zeros_like(v.narrow(self.axis, 0, 1))
        return torch.cat([zero, v], self.axis) - torch.cat([v, zero], self.axis)

    def _normal(self, x: Tensor) -> Tensor:
        return self.gamma * self.A.normal(x) + self.rho * self.back(self.difference(x))
