"""Receive coils: each sees the image through a sensitivity of its own."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property

import torch
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.linalg import each_row, root_sum_of_squares
from invdiff.operators.base import LinearOperator, SVDOperator
from invdiff.space import Space


class Coils(SVDOperator):
    """y_c = s_c x: one complex image seen by several coils (Pruessmann et al., MRM 1999, the C of SENSE).

    V = I, s is the root sum of squares of the maps, and U multiplies by the maps at unit norm.

    Args:
        space: the images, (1, *spatial), complex; two or three spatial axes.
        maps: complex sensitivities, (coils, *spatial), or (P, coils, *spatial): those of each of P problems. The range
            is (coils, *spatial). Where all are 0 nothing is measured.

    Raises:
        ConfigError: real images, more than one channel, or maps that are not finite.
        ShapeError: maps of another spatial shape.
    """

    maps: Tensor
    conjugate: Tensor

    def __init__(self, space: Space, maps: Tensor) -> None:
        super().__init__()
        if not space.dtype.is_complex or space.shape[0] != 1:
            raise ConfigError(f"Coils needs one complex image, (1, *spatial), found {space}; put RealImage or "
                              "ComplexFromChannels to its right")  # fmt: skip
        spatial = space.shape[1:]
        if maps.ndim not in (len(spatial) + 1, len(spatial) + 2) or maps.shape[-len(spatial) :] != spatial:
            found = "x".join(map(str, maps.shape))
            raise ShapeError(
                f"coil maps of {found} do not fit images of {space}: give (coils, *spatial) or (P, coils, *spatial)"
            )
        if not bool(torch.isfinite(torch.view_as_real(maps) if maps.is_complex() else maps).all()):
            raise ConfigError("some coil maps are NaN or infinite; set them to 0 where nothing is known")
        self.axis = maps.ndim - len(spatial) - 1
        maps = maps.to(space.dtype).contiguous()
        self.register_buffer("maps", maps)
        self.register_buffer("conjugate", maps.conj().resolve_conj())
        self.register_buffer("singular_values", root_sum_of_squares(maps, self.axis).unsqueeze(self.axis))
        self.domain, self.range = space, Space((maps.shape[self.axis], *spatial), space.dtype)
        self.problems = len(maps) if self.axis == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, *spatial) -> (B, coils, *spatial)."""
        return each_row(torch.mul, x, self.of(self.maps, x))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, coils, *spatial) -> (B, 1, *spatial): the sum of conj(s_c) y_c."""
        return each_row(lambda row, maps: (row * maps).sum(1, keepdim=True), y, self.of(self.conjugate, y))

    def of(self, maps: Tensor, batch: Tensor) -> Tensor:
        """The maps, or their conjugates, of each row of a batch: (B, coils, *spatial)."""
        # Row by row: torch's complex product rounds by where an element lies in memory, so by the place of a row.
        return maps if self.axis == 1 else maps.expand(len(batch), *maps.shape)

    def normal(self, x: Tensor) -> Tensor:
        """Multiply by the sum of squares."""
        return self.singular_values**2 * x

    def direct(self, y: Tensor) -> Tensor:
        """Least squares: the adjoint divided by the sum of squares, and 0 where that is 0 (Roemer et al., MRM 1990)."""
        return self.pinv(y)

    def pinv(self, y: Tensor, *, iterations: int = 0) -> Tensor:
        """Closed form of `LinearOperator.pinv`: as `direct`; `iterations` is not used."""
        return self.inverse**2 * self.adjoint(y)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """Closed form of `LinearOperator.prox`, voxel by voxel; `iterations` is not used."""
        return (self.adjoint(y) + rho * x) / (self.singular_values**2 + rho)

    def U(self, modes: Tensor) -> Tensor:
        """Multiply by the maps at unit norm: (B, 1, *spatial) -> (B, coils, *spatial)."""
        return self.forward(self.inverse * modes)

    def UH(self, y: Tensor) -> Tensor:
        """Adjoint of U."""
        return self.inverse * self.adjoint(y)

    def V(self, modes: Tensor) -> Tensor:
        """The identity."""
        return modes

    def VH(self, x: Tensor) -> Tensor:
        """The identity."""
        return x

    @property
    def inverse(self) -> Tensor:
        """1 / s, and 0 where nothing is measured."""
        return torch.where(self.singular_values > 0, 1 / self.singular_values, 0.0)

    @cached_property
    def norm2(self) -> float:
        """||A||^2, exact: the largest sum of squares of any problem."""
        return float(self.singular_values.max()) ** 2 if self.whole is None else self.whole.norm2

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        part = copy(self)  # nothing is checked again, and a run of neighbours is a view
        part._buffers = {name: b if b is None else _take(b, index) for name, b in self._buffers.items()}
        part.problems = len(index)
        return part


def _take(values: Tensor, index: Sequence[int]) -> Tensor:
    first = index[0]
    neighbours = list(index) == list(range(first, first + len(index)))
    return values[first : first + len(index)] if neighbours else values[list(index)]
