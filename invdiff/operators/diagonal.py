"""Multiply each element by a weight of its own: whitening, sensitivities, slices that miss different voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import LinearOperator, SVDOperator
from invdiff.space import Space


class Diagonal(SVDOperator):
    """y = w x, element by element. V = I, s = |w|, and U multiplies by the phase (or sign) of w.

    Args:
        space: images or measurements, (C, *spatial).
        weights: real or complex, finite; broadcast to the shape of `space`, or (P, ...) with one axis more: those of
            each of P problems.

    Raises:
        ConfigError: complex weights on a real space, or weights that are not finite.
        ShapeError: weights that do not broadcast.
    """

    weights: Tensor

    def __init__(self, space: Space, weights: Tensor) -> None:
        super().__init__()
        if weights.is_complex() and not space.dtype.is_complex:
            raise ConfigError(f"complex weights on {space}; put RealImage or ComplexFromChannels to the right")
        if not bool(torch.isfinite(weights).all()):
            raise ConfigError("some weights are NaN or infinite; a weight of 0 leaves an element out")
        _check_shape(space, weights)
        self.domain = self.range = space
        self.problems = len(weights) if weights.ndim > len(space.shape) else None
        weights = weights.to(space.dtype if weights.is_complex() else space.dtype.to_real())
        self.register_buffer("weights", weights)
        self.register_buffer("singular_values", weights.abs())

    def forward(self, x: Tensor) -> Tensor:
        """W x."""
        return _times(self.weights, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """conj(w) y."""
        return _times(self.weights.conj(), y)

    def normal(self, x: Tensor) -> Tensor:
        """|w|^2 x."""
        return self.singular_values**2 * x

    def direct(self, y: Tensor) -> Tensor:
        """Y / w, and 0 where w = 0."""
        return self.pinv(y)

    def U(self, modes: Tensor) -> Tensor:
        """Multiply by the phase of w, or by 0 where w = 0."""
        return _times(self.weights.sgn(), modes)

    def UH(self, y: Tensor) -> Tensor:
        """Multiply by the conjugate phase."""
        return _times(self.weights.sgn().conj(), y)

    def V(self, modes: Tensor) -> Tensor:
        """The identity."""
        return modes

    def VH(self, x: Tensor) -> Tensor:
        """The identity."""
        return x

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Diagonal(self.domain, self.weights[list(index)])


def _times(w: Tensor, x: Tensor) -> Tensor:
    """W x; of complex numbers part by part, since torch's own product rounds by where an element lies in memory."""
    if not w.is_complex():
        return w * x
    parts = torch.view_as_real(x.resolve_conj())
    turned = torch.stack([-parts[..., 1], parts[..., 0]], -1)
    return torch.view_as_complex(w.real[..., None] * parts + w.imag[..., None] * turned)


def _check_shape(space: Space, weights: Tensor) -> None:
    """Whether weights broadcast to (*shape) or to (P, *shape)."""
    inner = weights.shape[1:] if weights.ndim == len(space.shape) + 1 else weights.shape
    try:
        torch.empty(()).expand(inner).expand(space.shape)
    except RuntimeError:
        found = "x".join(map(str, weights.shape))
        raise ShapeError(
            f"weights of {found} do not fit {space}: they must broadcast to {space.shape}, or with one axis more to "
            f"(P, {', '.join(map(str, space.shape))})"
        ) from None
