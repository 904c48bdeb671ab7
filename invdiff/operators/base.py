"""y = A(x). What physics promises to solvers, and how physics is multiplied, added and transposed.

Inner products are real, Re<u, v>, so that an operator from real images to complex measurements is linear over the
reals and has an honest adjoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from invdiff.errors import ShapeError
from invdiff.linalg import cg, dot, power_iteration
from invdiff.rng import generator
from invdiff.space import Space

MANY = 2**18  # real numbers in one row, 1 MiB in float32, above which it is worth the care


class Operator(nn.Module, ABC):
    """A map from images to measurements; its tensors are buffers, so `.to(device)` moves it.

    Attributes:
        domain: space of one image, (C, *spatial).
        range: space of one measurement.
        problems: None when all rows of a batch meet the same physics; else the number of problems that it holds one
            thing each for, e.g. the coil maps of each slice, and the only number of rows that it takes.
    """

    domain: Space
    range: Space
    problems: int | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, *domain.shape) -> (B, *range.shape)."""

    def rows(self, index: Sequence[int]) -> Operator:
        """The operator of the problems at `index`, repeated or reordered at will; itself where all share one."""
        del index
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.domain} -> {self.range})"


class LinearOperator(Operator):
    """A linear map with its exact adjoint; `A @ B`, `A + B`, `2.0 * A` and `A.H` are linear operators too.

    Attributes:
        whole: the operator that has this one's norms: of all problems, where `rows` chose these from it; None for that
            one itself.
    """

    whole: LinearOperator | None = None

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """(B, *range.shape) -> (B, *domain.shape) with Re<A x, y> = Re<x, A^H y>."""

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x."""
        return self.adjoint(self(x))

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """argmin_u ||y - A u||^2 + rho ||u - x||^2, by conjugate gradients from `x`.

        Args:
            y: measurements, (B, *range.shape).
            x: centre and start, (B, *domain.shape).
            rho: weight of the centre, > 0.
            iterations: most CG steps.
            tolerance: rows stop by themselves at this fraction of their first residual.
        """
        return self.descend(y, x, rho, iterations=iterations, tolerance=tolerance)

    def descend(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 0.0) -> Tensor:
        """Conjugate gradients from `x` down ||y - A u||^2 + rho ||u - x||^2, rho >= 0; else as `prox`."""
        N, U = self.factored()
        # The first residual is A^H (y - A x): one product with A^H A less than the right-hand side would take.
        b = N.adjoint(y - N(U(x) if U else x))
        d = cg(lambda v: torch.add(N.normal(v), v, alpha=rho), b, iterations=iterations, tolerance=tolerance)
        return x + (U.adjoint(d) if U else d)

    def factored(self) -> tuple[LinearOperator, LinearOperator | None]:
        """N and U with A = N U and U unitary, or None for U where A has no such right end.

        Conjugate gradients take the same steps with N^H N from U x as with A^H A from x, and need U but twice.
        """
        return self, None

    def left_end(self) -> tuple[LinearOperator | None, LinearOperator]:
        """W and N with A = W N and W unitary, or None for W where A has no such left end.

        ||y - A x|| = ||W^H y - N x||, and white noise on y is white noise on W^H y.
        """
        return None, self

    def solve_y(self, y: Tensor, rho: float, *, iterations: int) -> Tensor:
        """(A A^H + rho)^-1 y, by conjugate gradients from zero; arguments as in `prox`."""
        return cg(lambda v: self(self.adjoint(v)) + rho * v, y, iterations=iterations, tolerance=1e-6)

    def pinv(self, y: Tensor, *, iterations: int) -> Tensor:
        """The least squares solution of least norm, A^+ y, by conjugate gradients from zero.

        Small singular values come last: few iterations leave them out, which regularises.
        """
        return cg(self.normal, self.adjoint(y), iterations=iterations, tolerance=1e-12)

    def direct(self, y: Tensor) -> Tensor:
        """The customary direct reconstruction: zero-filling, filtered back-projection, gridding with weights.

        Args:
            y: measurements, (B, *range.shape).

        Returns:
            A first image, (B, *domain.shape), at the intensities of x. By default 10 steps of least squares.
        """
        return cg(self.normal, self.adjoint(y), iterations=10, tolerance=1e-3)

    @property
    def opnorm(self) -> float:
        """||A||, the largest singular value."""
        return self.norm2**0.5

    def rows(self, index: Sequence[int]) -> LinearOperator:
        """The operator of the problems at `index`; its norm stays that of all, lest a row depend on its neighbours."""
        part = self if self.problems is None else self._rows(index)
        if part is not self:
            part.__dict__["whole"] = self.whole or self  # no sub-module: its tensors are not this one's
        return part

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        """What `rows` gives of an operator that holds one thing for each problem."""
        raise NotImplementedError(f"{type(self).__name__} has {self.problems} problems but cannot choose among them")

    @cached_property
    def norm2(self) -> float:
        """||A||^2, the largest eigenvalue of A^H A of any problem, by 50 power iterations from a fixed start."""
        if self.whole is not None:
            return self.whole.norm2
        shape, dtype = (self.problems or 1, *self.domain.shape), self.domain.dtype
        start = torch.randn(shape, dtype=dtype, generator=generator("power iteration"))
        device = next((b.device for b in self.buffers()), torch.device("cpu"))
        return float(power_iteration(self.normal, start.to(device)).max())

    @cached_property
    def mean_square(self) -> float:
        """||A||_F^2 / n, the mean of the squared singular values of all problems, by 8 random images each.

        The customary size of A^H A: in tomography ||A||^2 is a hundred times as much, in one mode.
        """
        if self.whole is not None:
            return self.whole.mean_square
        problems, dtype = self.problems or 1, self.domain.dtype
        device = next((b.device for b in self.buffers()), torch.device("cpu"))
        out, total = 0.0, 0.0
        for i in range(8):
            z = torch.randn((problems, *self.domain.shape), dtype=dtype, generator=generator("mean square", i))
            Az = self(z.to(device))
            out, total = out + float(dot(Az, Az).sum()), total + float(dot(z, z).sum())
        return out / total

    @property
    def H(self) -> LinearOperator:
        """The adjoint as an operator of its own."""
        return Adjoint(self)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Composed(self, other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, other)

    def __rmul__(self, scale: float) -> LinearOperator:
        return Scaled(scale, self)


class Unitary(LinearOperator):
    """A^H A = A A^H = I, over the reals where it takes real images to complex ones."""

    def normal(self, x: Tensor) -> Tensor:
        """The identity."""
        return x

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """Closed form of `LinearOperator.prox`: a weighted mean; `iterations` is not used."""
        return (self.adjoint(y) + rho * x) / (1 + rho)

    def solve_y(self, y: Tensor, rho: float, *, iterations: int) -> Tensor:
        """Closed form of `LinearOperator.solve_y`; `iterations` is not used."""
        return y / (1 + rho)

    def pinv(self, y: Tensor, *, iterations: int = 0) -> Tensor:
        """The inverse; `iterations` is not used."""
        return self.adjoint(y)

    def direct(self, y: Tensor) -> Tensor:
        """The inverse."""
        return self.adjoint(y)

    @cached_property
    def norm2(self) -> float:
        """||A||^2 = 1, exact."""
        return 1.0

    @cached_property
    def mean_square(self) -> float:
        """||A||_F^2 / n = 1, exact."""
        return 1.0


class SVDOperator(LinearOperator):
    """A linear operator with a cheap singular value decomposition A = U diag(s) V^H.

    V is square and unitary: modes have the shape of the domain. Modes that are not measured have s = 0, and U maps
    them to zero.

    Attributes:
        singular_values: non-negative, broadcasts against domain.shape.
    """

    singular_values: Tensor

    @abstractmethod
    def U(self, modes: Tensor) -> Tensor:
        """(B, *domain.shape) -> (B, *range.shape)."""

    @abstractmethod
    def UH(self, y: Tensor) -> Tensor:
        """(B, *range.shape) -> (B, *domain.shape)."""

    @abstractmethod
    def V(self, modes: Tensor) -> Tensor:
        """(B, *domain.shape) -> (B, *domain.shape)."""

    @abstractmethod
    def VH(self, x: Tensor) -> Tensor:
        """(B, *domain.shape) -> (B, *domain.shape)."""

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """Closed form of `LinearOperator.prox`; `iterations` is not used."""
        s = self.singular_values
        return self.V((s * self.UH(y) + rho * self.VH(x)) / (s**2 + rho))

    def solve_y(self, y: Tensor, rho: float, *, iterations: int) -> Tensor:
        """Closed form of `LinearOperator.solve_y`; `iterations` is not used."""
        s = self.singular_values
        return (y - self.U(s**2 / (s**2 + rho) * self.UH(y))) / rho

    def pinv(self, y: Tensor, *, iterations: int = 0) -> Tensor:
        """Closed form of `LinearOperator.pinv`; `iterations` is not used."""
        s = self.singular_values
        return self.V(torch.where(s > 0, 1 / s, 0.0) * self.UH(y))

    @cached_property
    def norm2(self) -> float:
        """||A||^2, exact: the largest squared singular value of any problem."""
        return float(self.singular_values.max()) ** 2 if self.whole is None else self.whole.norm2


class Composed(LinearOperator):
    """A B.

    Where B multiplies the data, as coils do, rows are taken one by one: what lies between A and B then stays in the
    cache and in memory that is used again, which is three times as fast for 8 rows of 8 coils of 320^2.
    """

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        super().__init__()
        if B.range != A.domain:
            raise ShapeError(f"cannot compose {A!r} with {B!r}: {B.range} is not {A.domain}")
        self.A, self.B = A, B
        self.domain, self.range, self.problems = B.domain, A.range, _problems(A, B)
        self.one_by_one = B.range.reals > max(2 * B.domain.reals, MANY)

    def forward(self, x: Tensor) -> Tensor:
        """A B x."""
        return self._act(lambda A, B, row: A(B(row)), x)

    def adjoint(self, y: Tensor) -> Tensor:
        """B^H A^H y."""
        return self._act(lambda A, B, row: B.adjoint(A.adjoint(row)), y)

    def normal(self, x: Tensor) -> Tensor:
        """B^H (A^H A) B x: a fast normal map of A is kept, and of B where A is unitary."""
        if isinstance(self.A, Unitary):
            return self.B.normal(x)
        return self._act(lambda A, B, row: B.adjoint(A.normal(B(row))), x)

    def factored(self) -> tuple[LinearOperator, LinearOperator | None]:
        """B belongs to U where it is unitary."""
        if not isinstance(self.B, Unitary):
            return self, None
        N, U = self.A.factored()
        return N, U @ self.B if U else self.B

    def left_end(self) -> tuple[LinearOperator | None, LinearOperator]:
        """A belongs to W where it is unitary, or else what A has at its left."""
        if isinstance(self.A, Unitary):
            W, N = self.B.left_end()
            return self.A @ W if W else self.A, N
        W, N = self.A.left_end()
        return (W, N @ self.B) if W else (None, self)

    def direct(self, y: Tensor) -> Tensor:
        """One factor undone after the other."""
        return self._act(lambda A, B, row: B.direct(A.direct(row)), y)

    def _act(self, act: Callable[[LinearOperator, LinearOperator, Tensor], Tensor], v: Tensor) -> Tensor:
        if len(v) == 1 or not self.one_by_one:
            return act(self.A, self.B, v)
        return torch.cat([act(self.A.rows([i]), self.B.rows([i]), row) for i, row in enumerate(v.split(1))])

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Composed(self.A.rows(index), self.B.rows(index))


class Sum(LinearOperator):
    """A + B."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        super().__init__()
        if (A.domain, A.range) != (B.domain, B.range):
            raise ShapeError(f"cannot add {A!r} and {B!r}: their spaces differ")
        self.A, self.B = A, B
        self.domain, self.range, self.problems = A.domain, A.range, _problems(A, B)

    def forward(self, x: Tensor) -> Tensor:
        """A x + B x."""
        return self.A(x) + self.B(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y + B^H y."""
        return self.A.adjoint(y) + self.B.adjoint(y)

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Sum(self.A.rows(index), self.B.rows(index))


class Scaled(LinearOperator):
    """c A with a real number c."""

    def __init__(self, scale: float, A: LinearOperator) -> None:
        super().__init__()
        self.scale, self.A = float(scale), A
        self.domain, self.range, self.problems = A.domain, A.range, A.problems

    def forward(self, x: Tensor) -> Tensor:
        """c A x."""
        return self.scale * self.A(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """c A^H y."""
        return self.scale * self.A.adjoint(y)

    def normal(self, x: Tensor) -> Tensor:
        """c^2 A^H A x."""
        return self.scale**2 * self.A.normal(x)

    def direct(self, y: Tensor) -> Tensor:
        """That of A, divided by c; zero for c = 0."""
        return self.A.direct(y) / self.scale if self.scale else self.adjoint(y)

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Scaled(self.scale, self.A.rows(index))


class Adjoint(LinearOperator):
    """A^H."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__()
        self.A = A
        self.domain, self.range, self.problems = A.range, A.domain, A.problems

    def forward(self, x: Tensor) -> Tensor:
        """A^H x."""
        return self.A.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A y."""
        return self.A(y)

    @property
    def H(self) -> LinearOperator:
        """A itself."""
        return self.A

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Adjoint(self.A.rows(index))


def _problems(A: Operator, B: Operator) -> int | None:
    """Problems of a product or sum: of either, and the same where both hold one thing for each."""
    if None not in (A.problems, B.problems) and A.problems != B.problems:
        raise ShapeError(f"{A!r} holds {A.problems} problems, {B!r} {B.problems}; they must agree")
    return A.problems if B.problems is None else B.problems
