"""What projections of an image along rays have in common: matrices, memory, checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.joseph import Rays, entries, matrices, system_matrix
from invdiff.operators.sparse import along_columns, csr, linear, product
from invdiff.space import Space

MAX_BYTES = 3 * 2**29


class Projections(LinearOperator):
    """Line integrals of (C, H, W) images along given rays; the range is (C, views, detectors).

    Up to `max_bytes` the system matrix and its transpose are stored; above, they are built again in slabs of views
    each time they act, which gives the same numbers and takes much longer.

    Args:
        space: real images, (C, H, W); channels are projected one by one.
        rays: of all views.
        max_bytes: most memory for the two matrices.
    """

    matrix: Tensor | None
    transpose: Tensor | None

    def __init__(self, space: Space, rays: Rays, max_bytes: int) -> None:
        super().__init__()
        C, H, W = space.shape
        size = 2 * entries(H, W, rays) * (4 + space.dtype.itemsize)
        stored = size <= max_bytes
        A, T = matrices(H, W, rays, space.dtype) if stored else (None, None)
        self.register_buffer("matrix", A)
        self.register_buffer("transpose", T)
        self.rays, views = rays, len(rays.t)
        self.slab = views if stored else max(1, views * max_bytes // (4 * size))
        self.domain, self.range = space, Space((C, *rays.t.shape), space.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Project: (B, C, H, W) -> (B, C, views, detectors)."""
        if self.matrix is None or self.transpose is None:
            return linear(self._project_slabs, self._back_project_slabs, x)
        return along_columns(self.matrix, self.transpose, x).unflatten(2, self.range.shape[1:])

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project without a filter: (B, C, views, detectors) -> (B, C, H, W)."""
        if self.matrix is None or self.transpose is None:
            return linear(self._back_project_slabs, self._project_slabs, y)
        return along_columns(self.transpose, self.matrix, y).unflatten(2, self.domain.shape[1:])

    def _project_slabs(self, x: Tensor) -> Tensor:
        X = x.flatten(2).flatten(0, 1).T.contiguous()
        slabs = [product(self._slab(views, x), X) for views in self._slabs()]
        return torch.cat(slabs).T.reshape(*x.shape[:2], *self.range.shape[1:])

    def _back_project_slabs(self, y: Tensor) -> Tensor:
        X = y.new_zeros(self.domain.shape[1] * self.domain.shape[2], y.shape[0] * y.shape[1])
        for views in self._slabs():
            X += product(self._slab(views, y, transposed=True), y[:, :, views].flatten(2).flatten(0, 1).T.contiguous())
        return X.T.reshape(*y.shape[:2], *self.domain.shape[1:])

    def _slabs(self) -> list[slice]:
        return [slice(i, i + self.slab) for i in range(0, len(self.rays.t), self.slab)]

    def _slab(self, views: slice, like: Tensor, *, transposed: bool = False) -> Tensor:
        H, W = self.domain.shape[1:]
        A = system_matrix(H, W, self.rays[views], self.domain.dtype)
        return csr(A.T.tocsr() if transposed else A, self.domain.dtype).to(like.device)


def check_images(space: Space, kind: str) -> None:
    """Refuse all but real (C, H, W): ShapeError, ConfigError."""
    if len(space.shape) != 3:
        raise ShapeError(f"{kind} CT needs images of shape (C, H, W), found {space}")
    check_real(space, kind)


def check_real(space: Space, kind: str) -> None:
    """Refuse complex images: ConfigError."""
    if not space.dtype.is_floating_point:
        raise ConfigError(f"{kind} CT needs real images, found {space}")


def radians(angles: Tensor | Sequence[float] | NDArray[Any], kind: str, turns: float = 2.0) -> NDArray[np.float64]:
    """Angles as an array; ConfigError for none, or for such as look like degrees."""
    theta = torch.as_tensor(angles, dtype=torch.float64).cpu().numpy().reshape(-1)
    if theta.size == 0:
        raise ConfigError(f"no angles given: {kind} CT needs at least one")
    largest = float(np.abs(theta).max())
    if not largest <= 2 * math.pi * turns:
        raise ConfigError(f"angles are in radians, the largest is {largest:g}; convert degrees by torch.deg2rad")
    return theta


def cells(detectors: int, pitch: float, offset: float) -> NDArray[np.float64]:
    """Positions of the cells, (detectors,): (d - detectors // 2 + offset) * pitch; ConfigError for none or no pitch."""
    if detectors < 1:
        raise ConfigError(f"at least one detector cell is needed, got {detectors}")
    if not 0 < pitch < math.inf:
        raise ConfigError(f"the pitch of the detector cells must be a finite number > 0, got {pitch:g}")
    if not math.isfinite(offset):
        raise ConfigError(f"the offset of the detector must be a finite number of cells, got {offset:g}")
    return (np.arange(detectors, dtype=np.float64) - detectors // 2 + offset) * pitch


def flat_detector(needed: float, detectors: int | None, spacing: float, offset: float) -> NDArray[np.float64]:
    """Positions of cells, `spacing` apart; None for as many as reach `needed` on both sides."""
    if detectors is None:
        cells(1, spacing, offset)  # so that it complains first
        detectors = 2 * math.ceil(needed / spacing + abs(offset)) + 1
    return cells(detectors, spacing, offset)


def reach(*sizes: int) -> float:
    """Distance in pixels from the axis to the farthest pixel centre."""
    return math.hypot(*(n // 2 for n in sizes))
