"""What measures slices, as what measures volumes: every slice by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from torch import Tensor

from invdiff.linalg import few_of, stacked
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
        return self._each(lambda A, x: A(x), self._cut(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, slices, *A.range.shape) -> (B, C, X, Y, Z)."""
        return self._join(self._each(lambda A, y: A.adjoint(y), y))

    def normal(self, x: Tensor) -> Tensor:
        """A^H A of each slice."""
        return self._join(self._each(lambda A, x: A.normal(x), self._cut(x)))

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """That of each slice: slices that are done do not wait for others."""
        how = {"iterations": iterations, "tolerance": tolerance}
        return self._join(self._each(lambda A, y, x: A.prox(y, x, rho, **how), y, self._cut(x)))

    def solve_y(self, y: Tensor, rho: float, *, iterations: int) -> Tensor:
        """That of each slice."""
        return self._each(lambda A, y: A.solve_y(y, rho, iterations=iterations), y)

    def pinv(self, y: Tensor, *, iterations: int) -> Tensor:
        """That of each slice."""
        return self._join(self._each(lambda A, y: A.pinv(y, iterations=iterations), y))

    def direct(self, y: Tensor) -> Tensor:
        """That of each slice."""
        return self._join(self._each(lambda A, y: A.direct(y), y))

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

    def _each(self, act: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
        """act(A, few slices of each stack) of stacks (B, slices, *): what lies between is as small for many slices."""

        def parts() -> Iterator[Tensor]:
            for b in range(len(stacks[0])):
                for few in few_of(self.slices):
                    A = self.A.rows([b * self.slices + k for k in few])
                    yield act(A, *(s[b, few.start : few.stop].contiguous() for s in stacks))

        return stacked(parts(), len(stacks[0]) * self.slices).unflatten(0, (-1, self.slices))

    def _cut(self, x: Tensor) -> Tensor:
        return x.movedim(2 + self.axis, 1)

    def _join(self, x: Tensor) -> Tensor:
        return x.movedim(1, 2 + self.axis)
