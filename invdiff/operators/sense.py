"""Cartesian MRI with receive coils."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import cast

import torch
from torch import Tensor

from invdiff.linalg import each_row
from invdiff.operators.base import Composed, LinearOperator, Unitary
from invdiff.operators.coils import Coils
from invdiff.operators.mask import Mask, gathered, scattered
from invdiff.space import Space


class Sense(Composed):
    """y_c = M F s_c x (Pruessmann et al., MRM 1999): the numbers of `Mask @ FFT @ Coils`, faster.

    Let v be the axes along which the mask varies, w those that are measured as a whole, such as the readout:

        y_c = F_w M F_v s_c x,    A^H A x = sum_c conj(s_c) F_v^H M F_v s_c x,

    F_w of what is measured alone, and none in A^H A: `Readout @ Lines @ Turn`, where an image is turned first, so that
    the axes v lie last in memory. Rows are taken one by one, so that their coil images stay in the cache and in memory
    that is used again.

    Args:
        coils: of images (1, *spatial).
        mask: boolean, broadcasts to the spatial shape, DC at index 0. All spatial axes are transformed.

    The range is (coils, n), complex, in the order of `Mask`.

    Raises:
        ConfigError: when the mask is not boolean or keeps nothing.
        ShapeError: when it does not broadcast.
    """

    A: Composed
    B: Turn

    def __init__(self, coils: Coils, mask: Tensor) -> None:
        every = Mask(coils.range, mask)
        kept = every.singular_values.bool()
        v = [a for a in range(kept.ndim) if not bool((kept == kept.narrow(a, 0, 1)).all())] or [kept.ndim - 1]
        turn = Turn(coils.domain, [a for a in range(kept.ndim) if a not in v] + v)
        lines = Lines(Coils(turn.range, turn(coils.maps)), turn(kept), len(v))
        numbers = torch.zeros(turn.range.shape[1:], dtype=torch.long)
        numbers[turn(kept)] = torch.arange(int(kept.sum()))
        super().__init__(Composed(Readout(lines, turn.adjoint(numbers)[kept]), lines), turn)
        self.mask = every

    def masked(self, mask: Tensor) -> Sense:
        """The same coils with another mask."""
        return Sense(Coils(self.domain, self.B.adjoint(self.lines.coils.maps)), mask)

    @property
    def lines(self) -> Lines:
        """The middle factor."""
        return cast(Lines, self.A.B)

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        part = copy(self)
        part._modules = self._modules | {"A": self.A.rows(index)}
        part.problems = len(index)
        return part


class Turn(Unitary):
    """The spatial axes of an image, which are the last ones, in another order; unitary.

    Args:
        space: the images, (C, *spatial).
        order: where each spatial axis of the range comes from.
    """

    def __init__(self, space: Space, order: Sequence[int]) -> None:
        super().__init__()
        self.order, self.back = list(order), [order.index(a) for a in range(len(order))]
        spatial = space.shape[1:]
        self.domain, self.range = space, Space((space.shape[0], *(spatial[a] for a in order)), space.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., *spatial), in the new order in memory as well."""
        return _permuted(x, self.order)

    def adjoint(self, y: Tensor) -> Tensor:
        """The old order."""
        return _permuted(y, self.back)


class Lines(LinearOperator):
    """M F_v s_c of images whose axes v lie last; the range is (coils, n) in their order.

    Args:
        coils: of such images.
        kept: boolean, of their spatial shape, the same along all axes but the last `v`.
        v: how many axes the mask varies along.
    """

    coils: Coils
    gain: Tensor
    places: Tensor

    def __init__(self, coils: Coils, kept: Tensor, v: int) -> None:
        super().__init__()
        self.coils, self.domain, self.problems = coils, coils.domain, coils.problems
        self.v = tuple(range(-v, 0))
        lines = kept[(0,) * (kept.ndim - v)]
        self.register_buffer("gain", torch.stack([lines, lines], -1).to(coils.domain.dtype.to_real()))
        self.register_buffer("places", lines.flatten().nonzero()[:, 0])
        self.shape = (*kept.shape[:-v], len(self.places))
        self.range = Space((coils.range.shape[0], math.prod(self.shape)), coils.domain.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, *spatial) -> (B, coils, n)."""
        return each_row(self._forward, x, self.coils.of(self.coils.maps, x))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, coils, n) -> (B, 1, *spatial)."""
        return each_row(self._adjoint, y, self.coils.of(self.coils.conjugate, y))

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x."""
        return each_row(self._normal, x, *(self.coils.of(m, x) for m in (self.coils.maps, self.coils.conjugate)))

    def direct(self, y: Tensor) -> Tensor:
        """Zero-filling of each coil, then `Coils.direct`."""
        return self.coils.inverse**2 * self.adjoint(y)

    def _forward(self, x: Tensor, maps: Tensor) -> Tensor:
        k = torch.fft.fftn(x * maps, dim=self.v, norm="ortho").flatten(-len(self.v))
        return gathered(k, self.places).flatten(2)

    def _adjoint(self, y: Tensor, conjugate: Tensor) -> Tensor:
        filled = torch.zeros_like(conjugate).flatten(-len(self.v))
        filled = scattered(filled, self.places, y.unflatten(2, self.shape))
        images = torch.fft.ifftn(filled.view_as(conjugate), dim=self.v, norm="ortho")
        return images.mul_(conjugate).sum(1, keepdim=True)

    def _normal(self, x: Tensor, maps: Tensor, conjugate: Tensor) -> Tensor:
        k = torch.fft.fftn(x * maps, dim=self.v)
        torch.view_as_real(k).mul_(self.gain)  # a real factor of complex numbers would be made complex each time
        return torch.fft.ifftn(k, dim=self.v).mul_(conjugate).sum(1, keepdim=True)

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        part = copy(self)
        part._modules = self._modules | {"coils": self.coils.rows(index)}
        part.problems = len(index)
        return part


class Readout(Unitary):
    """F_w of measured lines, and their elements in the order of `Mask`; unitary.

    Args:
        lines: what gives them.
        packing: which of their elements is each of the range, (n,).
    """

    packing: Tensor

    def __init__(self, lines: Lines, packing: Tensor) -> None:
        super().__init__()
        self.domain = self.range = lines.range
        self.shape, self.w = lines.shape, tuple(range(-len(lines.shape), -1))
        self.register_buffer("packing", packing)

    def forward(self, x: Tensor) -> Tensor:
        """(B, coils, n), in k-space along all axes."""
        return each_row(self._forward, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, coils, n), in image space along w."""
        return each_row(self._adjoint, y)

    def _forward(self, x: Tensor) -> Tensor:
        if self.w:
            x = torch.fft.fftn(x.unflatten(2, self.shape), dim=self.w, norm="ortho").flatten(2)
        return gathered(x, self.packing)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = scattered(torch.zeros_like(y), self.packing, y)
        return torch.fft.ifftn(x.unflatten(2, self.shape), dim=self.w, norm="ortho").flatten(2) if self.w else x


def _permuted(x: Tensor, order: Sequence[int]) -> Tensor:
    first = x.ndim - len(order)
    return x.permute(*range(first), *(first + a for a in order)).contiguous()
