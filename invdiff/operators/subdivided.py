"""What measures voxels, as what measures the equal parts that each of them is the mean of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from invdiff.operators.base import Composed, LinearOperator
from invdiff.operators.resample import average_pool
from invdiff.space import Space


class Subdivided(Composed):
    """A R with block means R on a finer grid; all that A does in closed form stays in closed form.

    The rows of R are orthogonal, R R^H = c with 1 / c the number of parts. So R^H / c undoes R with the least norm, and

        prox of A R at x = x + R^H (prox of A at R x, with rho / c, less R x) / c.

    Args:
        A: of (C, *spatial).
        parts: in how many each voxel is divided along each spatial axis.
    """

    def __init__(self, A: LinearOperator, parts: Sequence[int]) -> None:
        channels, *sizes = A.domain.shape
        fine = Space((channels, *(n * k for n, k in zip(sizes, parts, strict=True))), A.domain.dtype)
        super().__init__(A, average_pool(fine, parts))
        self.parts, self.c = tuple(parts), 1 / math.prod(parts)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """That of A on the means; the parts of a voxel move alike."""
        means = self.B(x)
        moved = self.A.prox(y, means, rho / self.c, iterations=iterations, tolerance=tolerance)
        return x + self.B.adjoint(moved - means) / self.c

    def solve_y(self, y: Tensor, rho: float, *, iterations: int) -> Tensor:
        """That of A: (c A A^H + rho)^-1 y."""
        return self.A.solve_y(y, rho / self.c, iterations=iterations) / self.c

    def pinv(self, y: Tensor, *, iterations: int) -> Tensor:
        """That of A, the same in all parts of a voxel."""
        return self.B.adjoint(self.A.pinv(y, iterations=iterations)) / self.c

    def left_end(self) -> tuple[LinearOperator | None, LinearOperator]:
        """That of A."""
        W, N = self.A.left_end()
        return (W, Subdivided(N, self.parts)) if W else (None, self)

    @cached_property
    def norm2(self) -> float:
        """C ||A||^2."""
        return self.c * self.A.norm2

    @cached_property
    def mean_square(self) -> float:
        """C^2 times that of A: parts that differ are not seen."""
        return self.c**2 * self.A.mean_square

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Subdivided(self.A.rows(index), self.parts)
