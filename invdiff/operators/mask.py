"""Keep some elements of an image: inpainting, undersampling."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import SVDOperator
from invdiff.space import Space


class Mask(SVDOperator):
    """The elements of an image where `mask` is True, packed as a vector in row-major order.

    Args:
        space: the images, (C, *spatial), real or complex.
        mask: boolean, broadcasts to the spatial shape, e.g. (H, W) or (H, 1); all channels share it.

    The range is (C, n) for n True elements. V = I and s is the mask itself as 0 and 1.

    Raises:
        ConfigError: when the mask is not boolean, or keeps nothing.
        ShapeError: when the mask does not broadcast to the spatial shape.
    """

    index: Tensor

    def __init__(self, space: Space, mask: Tensor) -> None:
        super().__init__()
        mask = spatial_mask(space, mask)
        n = int(mask.sum())
        self.domain, self.range = space, Space((space.shape[0], n), space.dtype)
        # Whole lines are moved as such, many times faster than point by point.
        self.line = _line(mask)
        kept = mask.reshape(-1, self.line)[:, 0]
        self.register_buffer("index", kept.nonzero()[:, 0])
        self.register_buffer("singular_values", mask.to(space.dtype.to_real()))

    def U(self, modes: Tensor) -> Tensor:
        """Select: (B, C, *spatial) -> (B, C, n)."""
        if self.line > 1:
            return modes.reshape(*modes.shape[:2], -1, self.line).index_select(2, self.index).flatten(2)
        return gathered(modes.flatten(2), self.index)

    def UH(self, y: Tensor) -> Tensor:
        """Scatter into zeros: (B, C, n) -> (B, C, *spatial)."""
        zeros = y.new_zeros(*y.shape[:2], *self.domain.shape[1:])
        if self.line > 1:
            lines = zeros.view(*y.shape[:2], -1, self.line)
            lines.index_copy_(2, self.index, y.unflatten(2, (-1, self.line)))
        else:
            scattered(zeros.view(*y.shape[:2], -1), self.index, y)
        return zeros

    def V(self, modes: Tensor) -> Tensor:
        """The identity."""
        return modes

    def VH(self, x: Tensor) -> Tensor:
        """The identity."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Select: (B, C, *spatial) -> (B, C, n)."""
        return self.U(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Scatter into zeros: (B, C, n) -> (B, C, *spatial)."""
        return self.UH(y)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """Closed form of `LinearOperator.prox`, element by element; `iterations` is not used."""
        return self.UH(y).add_(x, alpha=rho).div_(self.singular_values + rho)

    def normal(self, x: Tensor) -> Tensor:
        """Multiply by the mask."""
        return self.singular_values * x


def gathered(x: Tensor, places: Tensor) -> Tensor:
    """These places of the last axis: of points 2 to 8 times faster on a CPU than `index_select`."""
    return x.gather(-1, places.expand(*x.shape[:-1], -1))


def scattered(zeros: Tensor, places: Tensor, x: Tensor) -> Tensor:
    """Adjoint of `gathered`, into zeros, which it overwrites."""
    return zeros.scatter_(-1, places.expand(*x.shape[:-1], -1), x)


def _line(mask: Tensor) -> int:
    """How many voxels in a row are measured, or missing, together everywhere: whole last axes."""
    line = 1
    for axis in reversed(range(mask.ndim)):
        if not bool((mask == mask.narrow(axis, 0, 1)).all()):
            break
        line *= mask.shape[axis]
    return line


def spatial_mask(space: Space, mask: Tensor) -> Tensor:
    """Check `mask` and expand it to the spatial shape of `space`; raises as `Mask` does."""
    if mask.dtype != torch.bool:
        raise ConfigError(f"the mask is {str(mask.dtype).removeprefix('torch.')}, not boolean; give e.g. mask > 0")
    spatial = space.shape[1:]
    try:
        mask = mask.expand(spatial)
    except RuntimeError:
        found = "x".join(map(str, mask.shape))
        raise ShapeError(f"a mask of {found} does not fit images of {space}: it must broadcast to {spatial}") from None
    if not bool(mask.any()):
        raise ConfigError("the mask is False everywhere: nothing would be measured")
    return mask
