"""y = A(x). What physics promises to solvers, and how physics is multiplied, added and transposed.

Inner products are real, Re<u, v>, so that an operator from real images to complex measurements is linear over the
reals and has an honest adjoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor, nn

from invdiff.errors import ShapeError
from invdiff.linalg import cg, power_iteration
from invdiff.rng import generator
from invdiff.space import Space


class Operator(nn.Module, ABC):
    """A map from images to measurements; its tensors are buffers, so `.to(device)` moves it.

    Attributes:
        domain: space of one image, (C, *spatial).
        range: space of one measurement.
    """

    domain: Space
    range: Space

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, *domain.shape) -> (B, *range.shape)."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.domain} -> {self.range})"


class LinearOperator(Operator):
    """A linear map with its exact adjoint; `A @ B`, `A + B`, `2.0 * A` and `A.H` are linear operators too."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """(B, *range.shape) -> (B, *domain.shape) with Re<A x, y> = Re<x, A^H y>."""

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x."""
        return self.adjoint(self(x))

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int) -> Tensor:
        """argmin_u ||y - A u||^2 + rho ||u - x||^2, by conjugate gradients from `x`.

        Args:
            y: measurements, (B, *range.shape).
            x: centre and start, (B, *domain.shape).
            rho: weight of the centre, > 0.
            iterations: most CG steps; rows stop by themselves at a relative residual of 1e-6.
        """
        b = self.adjoint(y) + rho * x
        return cg(lambda v: self.normal(v) + rho * v, b, x, iterations=iterations, tolerance=1e-6)

    @cached_property
    def norm2(self) -> float:
        """||A||^2, the largest eigenvalue of A^H A, by 50 power iterations from a fixed start."""
        shape, dtype = (1, *self.domain.shape), self.domain.dtype
        start = torch.randn(shape, dtype=dtype, generator=generator("power iteration"))
        device = next((b.device for b in self.buffers()), torch.device("cpu"))
        return float(power_iteration(self.normal, start.to(device)))

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

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int) -> Tensor:
        """Closed form of `LinearOperator.prox`; `iterations` is not used."""
        s = self.singular_values
        return self.V((s * self.UH(y) + rho * self.VH(x)) / (s**2 + rho))

    @cached_property
    def norm2(self) -> float:
        """||A||^2, exact: the largest squared singular value."""
        return float(self.singular_values.max()) ** 2


class Composed(LinearOperator):
    """A B."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        super().__init__()
        if B.range != A.domain:
            raise ShapeError(f"cannot compose {A!r} with {B!r}: {B.range} is not {A.domain}")
        self.A, self.B = A, B
        self.domain, self.range = B.domain, A.range

    def forward(self, x: Tensor) -> Tensor:
        """A B x."""
        return self.A(self.B(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """B^H A^H y."""
        return self.B.adjoint(self.A.adjoint(y))

    def normal(self, x: Tensor) -> Tensor:
        """B^H (A^H A) B x: a fast normal map of A is kept."""
        return self.B.adjoint(self.A.normal(self.B(x)))


class Sum(LinearOperator):
    """A + B."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        super().__init__()
        if (A.domain, A.range) != (B.domain, B.range):
            raise ShapeError(f"cannot add {A!r} and {B!r}: their spaces differ")
        self.A, self.B = A, B
        self.domain, self.range = A.domain, A.range

    def forward(self, x: Tensor) -> Tensor:
        """A x + B x."""
        return self.A(x) + self.B(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y + B^H y."""
        return self.A.adjoint(y) + self.B.adjoint(y)


class Scaled(LinearOperator):
    """c A with a real number c."""

    def __init__(self, scale: float, A: LinearOperator) -> None:
        super().__init__()
        self.scale, self.A = float(scale), A
        self.domain, self.range = A.domain, A.range

    def forward(self, x: Tensor) -> Tensor:
        """c A x."""
        return self.scale * self.A(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """c A^H y."""
        return self.scale * self.A.adjoint(y)

    def normal(self, x: Tensor) -> Tensor:
        """c^2 A^H A x."""
        return self.scale**2 * self.A.normal(x)


class Adjoint(LinearOperator):
    """A^H."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__()
        self.A = A
        self.domain, self.range = A.range, A.domain

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
