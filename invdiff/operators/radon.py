"""Parallel-beam CT as an explicit system matrix (Joseph, IEEE TMI 1982): slices are columns, the adjoint is exact."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.space import Space


class ParallelRadon(LinearOperator):
    """Line integrals of (1, H, W) images along parallel rays, y of shape (1, views, detectors).

    Pixels and detector cells have side 1. A ray of angle theta and offset t is the line
    column cos(theta) - row sin(theta) = t about the image's centre: `skimage.transform.radon`'s convention.

    Args:
        space: real images with one channel.
        angles: in radians, (views,).
        detectors: number of cells; by default the image's diagonal is covered.

    Raises:
        ConfigError: no angles, or angles that look like degrees.
        ShapeError: images with another number of channels or axes.
    """

    def __init__(self, space: Space, angles: Tensor, detectors: int | None = None) -> None:
        super().__init__()
        if len(space.shape) != 3 or space.shape[0] != 1:
            raise ShapeError(f"parallel-beam CT takes one channel and two axes, (1, H, W), got {space}")
        if len(angles) == 0 or float(angles.abs().max()) > 4 * math.pi:
            raise ConfigError("angles are in radians, at least one, none beyond 4 pi; convert degrees by torch.deg2rad")
        h, w = space.shape[1:]
        self.detectors = detectors or math.ceil(math.hypot(h, w)) + 1
        A = _joseph(h, w, angles.double().numpy(), self.detectors)
        self.matrix: Tensor
        self.transposed: Tensor
        self.register_buffer("matrix", _csr(A, space.dtype))
        self.register_buffer("transposed", _csr(A.T.tocsr(), space.dtype))
        self.domain, self.range = space, Space((1, len(angles), self.detectors), space.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Project."""
        return _Product.apply(self.matrix, self.transposed, x.flatten(1)).unflatten(1, self.range.shape)  # type: ignore[no-any-return, no-untyped-call]

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project, unfiltered: the transposed matrix."""
        return _Product.apply(self.transposed, self.matrix, y.flatten(1)).unflatten(1, self.domain.shape)  # type: ignore[no-any-return, no-untyped-call]


class _Product(torch.autograd.Function):
    """X -> X M^T for a sparse M, whose gradient is the product with the stored transpose."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, m: Tensor, mt: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.m, ctx.mt = m, mt  # type: ignore[attr-defined]
        return (m @ x.T.contiguous()).T.contiguous()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[None, None, Tensor]:  # type: ignore[override]
        return None, None, _Product.apply(ctx.mt, ctx.m, g)  # type: ignore[attr-defined, no-untyped-call]


def _joseph(h: int, w: int, angles: np.ndarray, detectors: int) -> sparse.csr_array:
    """System matrix (views * detectors, h * w): step along the steeper axis, interpolate linearly across."""
    t = np.arange(detectors) - (detectors - 1) / 2
    blocks = [_view(h, w, float(a), t) for a in angles]
    return sparse.vstack(blocks, format="csr")


def _view(h: int, w: int, theta: float, t: np.ndarray) -> sparse.csr_array:
    c, s = math.cos(theta), math.sin(theta)
    along_rows = abs(c) >= abs(s)  # rays nearer to vertical: one sample in each row
    steps, across = (h, w) if along_rows else (w, h)
    k = np.arange(steps)
    offset = k - (steps - 1) / 2
    if along_rows:  # x = (t + y s) / c with y = row offset
        position = (t[:, None] + offset * s) / c + (across - 1) / 2
    else:  # y = (x c - t) / s
        position = (offset * c - t[:, None]) / s + (across - 1) / 2
    low = np.floor(position).astype(np.int64)
    weight = position - low
    ray = np.broadcast_to(np.arange(len(t))[:, None], low.shape)
    step = np.broadcast_to(k, low.shape)
    length = 1 / max(abs(c), abs(s))
    rows, cols, values = [], [], []
    for cell, share in ((low, 1 - weight), (low + 1, weight)):
        inside = (cell >= 0) & (cell < across)
        pixel = step * w + cell if along_rows else cell * w + step
        rows.append(ray[inside])
        cols.append(pixel[inside])
        values.append(length * share[inside])
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols)))
    return sparse.csr_array(entries, shape=(len(t), h * w))


def _csr(A: sparse.csr_array, dtype: torch.dtype) -> Tensor:
    A.sort_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        indices = [torch.from_numpy(i.astype(np.int32)) for i in (A.indptr, A.indices)]
        return torch.sparse_csr_tensor(*indices, torch.from_numpy(A.data).to(dtype), size=A.shape)
