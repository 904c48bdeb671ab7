"""A measurement, the operator that made it and the noise on it: all that is known besides the prior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.linalg import FEW, dot, few_of
from invdiff.noise.base import NoiseModel
from invdiff.operators.base import LinearOperator, Operator

OperatorT_co = TypeVar("OperatorT_co", bound=Operator, covariant=True)
NoiseT_co = TypeVar("NoiseT_co", bound=NoiseModel, covariant=True)


@dataclass(frozen=True)
class InverseProblem(Generic[OperatorT_co, NoiseT_co]):
    """P independent problems y_p = A_p(x_p) + noise with operators of one kind, most often the same: slices, frames.

    Attributes:
        operator: maps (B, *domain.shape) to (B, *range.shape).
        noise: law of y given A(x).
        y: measurements, (P, *range.shape).

    Raises:
        ShapeError: when y does not lie in the operator's range.
    """

    operator: OperatorT_co
    noise: NoiseT_co
    y: Tensor

    def __post_init__(self) -> None:
        want = tuple(self.operator.range.shape)
        if tuple(self.y.shape[1:]) != want:
            raise ShapeError(f"y has shape {tuple(self.y.shape)}, {self.operator!r} gives (P, {str(want)[1:]}")
        if self.operator.problems not in (None, len(self.y)):
            raise ShapeError(f"y holds {len(self.y)} problems, {self.operator!r} is of {self.operator.problems}")

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(y | x) of images (P, *domain.shape) -> (P,)."""
        return self.noise.log_prob(self.y, self.operator(x))

    def residual_norm2(self, x: Tensor) -> Tensor:
        """||y - A(x)||^2 of each problem, (P, *domain.shape) -> (P,)."""
        residual = self.y - self.operator(x)
        return dot(residual, residual)

    def parts(self) -> Iterator[tuple[slice, InverseProblem[OperatorT_co, NoiseT_co]]]:
        """Few problems at a time, and where they are: what is done so takes as much memory for many slices as for few.

        A volume, or frame, is a part of its own.
        """
        few = FEW if len(self.operator.domain.shape) == 3 else 1
        for at in few_of(len(self.y), few):
            yield slice(at.start, at.stop), self.rows(at)

    def rows(self, index: Sequence[int]) -> InverseProblem[OperatorT_co, NoiseT_co]:
        """The problems at `index`, repeated or reordered at will."""
        return replace(self, operator=cast(OperatorT_co, self.operator.rows(index)), y=self.y[list(index)])

    def reduced(self) -> InverseProblem[OperatorT_co, NoiseT_co]:
        """The same problem without the unitary left end of its operator, taken off y once: no step needs it.

        ||y - A x|| and A^H (y - A x) stay what they are. Itself where there is no such end or the noise is not white.
        """
        A = self.operator
        if not isinstance(A, LinearOperator) or not self.noise.white:
            return self
        W, N = A.left_end()
        if W is None:
            return self
        inner = copy(N)
        inner.__dict__["whole"] = A.whole or A  # of the same norms
        return replace(self, operator=cast(OperatorT_co, inner), y=W.adjoint(self.y))
