"""Cartesian MRI with receive coils."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from invdiff.linalg import each_row
from invdiff.operators.base import Composed, LinearOperator, Unitary
from invdiff.operators.coils import Coils
from invdiff.operators.mask import Mask
from invdiff.space import Space


class Sense(Composed):
    """y_c = M F s_c x (Pruessmann et al., MRM 1999): the numbers of `Mask @ FFT @ Coils`, faster.

    Let v be the axes along which the mask varies, w those that are measured as a whole, such as the readout:

        y_c = F_w M F_v s_c x,    A^H A x = sum_c conj(s_c) F_v^H M F_v s_c x,

    F_w of what is measured alone, and none in A^H A. An image is turned first, so that the axes v lie last in memory.
    Rows are taken one by one, so that their coil images stay in the cache and in memory that is used again.

    Args:
        coils: of images (1, *spatial).
        mask: boolean, broadcasts to the spatial shape, DC at index 0. All spatial axes are transformed.

    The range is (coils, n), complex, in the order of `Mask`.

    Raises:
        ConfigError: when the mask is not boolean or keeps nothing.
        ShapeError: when it does not broadcast.
    """

    A: Lines

    def __init__(self, coils: Coils, mask: Tensor) -> None:
        every = Mask(coils.range, mask)
        kept = every.singular_values.bool()
        v = [a for a in range(kept.ndim) if not bool((kept == kept.narrow(a, 0, 1)).all())] or [kept.ndim - 1]
        turn = Turn(coils.domain, [a for a in range(kept.ndim) if a not in v] + v)
        numbers = torch.arange(kept.numel()).reshape(turn.range.shape[1:])
        lines = Lines(Coils(turn.range, turn(coils.maps)), turn(kept), len(v), turn.adjoint(numbers)[kept])
        super().__init__(lines, turn)
        self.mask = every

    def masked(self, mask: Tensor) -> Sense:
        """The same coils with another mask."""
        return Sense(Coils(self.domain, self.B.adjoint(self.A.coils.maps)), mask)

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
    """`Sense` of images whose axes v lie last.

    Args:
        coils: of such images.
        kept: boolean, of their spatial shape, the same along all axes but the last `v`.
        v: how many axes the mask varies along.
        packed: the number of each measured element, (n,), in the order of the range.
    """

    coils: Coils
    gain: Tensor
    places: Tensor
    packing: Tensor | None

    def __init__(self, coils: Coils, kept: Tensor, v: int, packed: Tensor) -> None:
        super().__init__()
        self.coils, self.domain, self.problems = coils, coils.domain, coils.problems
        self.range = Space((coils.range.shape[0], len(packed)), coils.domain.dtype)
        w = kept.ndim - v
        self.v, self.w = tuple(range(-v, 0)), tuple(range(-w, 0))
        lines = kept[(0,) * w]
        self.register_buffer("gain", torch.stack([lines, lines], -1).to(coils.domain.dtype.to_real()))
        by_line = torch.arange(kept.numel()).reshape(kept.shape).movedim(self.v, tuple(range(v)))[lines]
        self.lines = by_line.shape
        self.register_buffer("places", by_line.flatten())
        self.register_buffer("packing", _order(by_line.flatten(), packed))

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
        k = torch.fft.fftn(x * maps, dim=self.v, norm="ortho").flatten(2)
        k = k.gather(2, self.places.expand(*k.shape[:2], -1))
        if self.w:
            k = torch.fft.fftn(k.unflatten(2, self.lines), dim=self.w, norm="ortho").flatten(2)
        return k if self.packing is None else k.index_select(2, self.packing)

    def _adjoint(self, y: Tensor, conjugate: Tensor) -> Tensor:
        k = y if self.packing is None else torch.zeros_like(y).index_copy(2, self.packing, y)
        if self.w:
            k = torch.fft.ifftn(k.unflatten(2, self.lines), dim=self.w, norm="ortho").flatten(2)
        filled = torch.zeros_like(conjugate).flatten(2).scatter_(2, self.places.expand(*k.shape[:2], -1), k)
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


def _order(places: Tensor, wanted: Tensor) -> Tensor | None:
    """Which of `places` each of `wanted` is; None where they are the same already."""
    return None if torch.equal(places, wanted) else places.argsort()[wanted.argsort().argsort()]


def _permuted(x: Tensor, order: Sequence[int]) -> Tensor:
    first = x.ndim - len(order)
    return x.permute(*range(first), *(first + a for a in order)).contiguous()
