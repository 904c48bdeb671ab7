"""What measures slices, as what measures volumes: every slice by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from invdiff.operators.base import LinearOperator
from invdiff.space import Space


class Slicewise(LinearOperator):
    """A on each slice across one axis of a volume; all that A does in closed form stays in closed form.

    The domain is (C, X, Y, Z), the range (slices, *A.range.shape).

    Args:
        A: of one slice, (C, H, W); where it holds one thing for each problem, its problems are the slices of one volume
            after the other.
        slices: how many a volume has.
        axis: the one that counts them: 0, 1 or 2.
    """

    def __init__(self, A: LinearOperator, slices: int, axis: int) -> None:
        super().__init__()
        shape = list(A.domain.shape)
        shape.insert(1 + axis, slices)
        self.A, self.slices, self.axis = A, slices, axis
        self.domain, self.range = Space(tuple(shape), A.domain.dtype), Space((slices, *A.range.shape), A.range.dtype)
        self.problems = None if A.problems is None else A.problems // slices

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, slices, *A.range.shape)."""
        return self._stack(self.A(self._cut(x)))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, slices, *A.range.shape) -> (B, C, X, Y, Z)."""
        return self._join(self.A.adjoint(y.flatten(0, 1)))

    def normal(self, x: Tensor) -> Tensor:
        """A^H A of each slice."""
        return self._join(self.A.normal(self._cut(x)))

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """That of each slice: slices that are done do not wait for others."""
        u = self.A.prox(y.flatten(0, 1), self._cut(x), rho, iterations=iterations, tolerance=tolerance)
        return self._join(u)

    def solve_y(self, y: Tensor, rho: float, *, iterations: int) -> Tensor:
        """That of each slice."""
        return self._stack(self.A.solve_y(y.flatten(0, 1), rho, iterations=iterations))

    def pinv(self, y: Tensor, *, iterations: int) -> Tensor:
        """That of each slice."""
        return self._join(self.A.pinv(y.flatten(0, 1), iterations=iterations))

    def direct(self, y: Tensor) -> Tensor:
        """That of each slice."""
        return self._join(self.A.direct(y.flatten(0, 1)))

    @cached_property
    def norm2(self) -> float:
        """That of A."""
        return self.A.norm2

    @cached_property
    def mean_square(self) -> float:
        """That of A."""
        return self.A.mean_square

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        n = self.slices
        return Slicewise(self.A.rows([i * n + k for i in index for k in range(n)]), n, self.axis)

    def _cut(self, x: Tensor) -> Tensor:
        return x.movedim(2 + self.axis, 1).flatten(0, 1)

    def _stack(self, y: Tensor) -> Tensor:
        return y.unflatten(0, (-1, self.slices))

    def _join(self, x: Tensor) -> Tensor:
        return self._stack(x).movedim(1, 2 + self.axis)
