"""One matrix per axis: Gaussian blur, average pooling and any other separable physics.

Banded matrices stored dense and applied by matrix products are the fastest form on a CPU, take any boundary rule, have
an exact adjoint, and shrink an axis when they are rectangular.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import SVDOperator
from invdiff.space import Space


class Separable(SVDOperator):
    """y = (M_1 x M_2 x ...) x on (C, *spatial): each matrix acts along its axis, channels are left alone.

    Args:
        space: the images, (C, n_1, n_2, ...).
        matrices: one (m_i, n_i) for each spatial axis; the range is (C, m_1, m_2, ...).

    Modes whose singular value is below max(m_i, n_i) eps of an axis' largest one count as not measured.

    Raises:
        ShapeError: when number or width of the matrices does not match the spatial shape.
    """

    def __init__(self, space: Space, matrices: Sequence[Tensor]) -> None:
        super().__init__()
        widths = tuple(M.shape[1] for M in matrices)
        if widths != space.shape[1:]:
            raise ShapeError(
                f"matrices of widths {widths} do not fit images of {space}: one per spatial axis is needed"
            )
        self.axes = nn.ModuleList(_Axis(M.to(space.dtype)) for M in matrices)
        self.domain = space
        self.range = Space((space.shape[0], *(M.shape[0] for M in matrices)), space.dtype)

    @property
    def singular_values(self) -> Tensor:  # type: ignore[override]
        """Outer product of the axes' singular values, shaped like one channel."""
        return reduce(lambda s, s_i: s[..., None] * s_i, self._factors(lambda axis: axis.svd[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each matrix along its axis."""
        return _apply_along(self._factors(lambda axis: axis.matrix), x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply each conjugate transpose along its axis."""
        return _apply_along(self._factors(lambda axis: axis.matrix.mH), y)

    def U(self, modes: Tensor) -> Tensor:
        """The measured modes of each axis, turned into measurements."""
        return _apply_along(self._factors(lambda axis: axis.svd[0]), modes)

    def UH(self, y: Tensor) -> Tensor:
        """Adjoint of U."""
        return _apply_along(self._factors(lambda axis: axis.svd[0].mH), y)

    def V(self, modes: Tensor) -> Tensor:
        """Modes -> images."""
        return _apply_along(self._factors(lambda axis: axis.svd[2].mH), modes)

    def VH(self, x: Tensor) -> Tensor:
        """Images -> modes."""
        return _apply_along(self._factors(lambda axis: axis.svd[2]), x)

    def _factors(self, part: Callable[[_Axis], Tensor]) -> list[Tensor]:
        return [part(cast(_Axis, axis)) for axis in self.axes]


class _Axis(nn.Module):
    """A matrix (m, n) and, once asked for, U (m, n), s (n,) and V^H (n, n), as buffers that move together."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    @property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        if not hasattr(self, "VH"):
            for name, factor in zip(("U", "s", "VH"), _square_svd(self.matrix), strict=True):
                self.register_buffer(name, factor)
        return cast(tuple[Tensor, Tensor, Tensor], (self.U, self.s, self.VH))


def _square_svd(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, n), s (n,) and V^H (n, n), computed in double precision; U and s are zero on the unmeasured modes."""
    m, n = M.shape
    U, s, VH = torch.linalg.svd(M.to(torch.promote_types(M.dtype, torch.float64)), full_matrices=True)
    rank = int((s > max(m, n) * torch.finfo(M.dtype).eps * s[0]).sum())
    U = torch.cat([U[:, :rank], U.new_zeros(m, n - rank)], dim=1)
    s = torch.cat([s[:rank], s.new_zeros(n - rank)])
    return U.to(M.dtype), s.to(M.dtype.to_real()), VH.to(M.dtype)


def _apply_along(matrices: Sequence[Tensor], x: Tensor) -> Tensor:
    for dim, M in enumerate(matrices, start=2):
        if dim == x.ndim - 1:
            x = x @ M.mT  # one product for all rows: many times faster than a batch of products with vectors
        else:
            shape = x.shape
            x = M @ x.reshape(-1, shape[dim], math.prod(shape[dim + 1 :]))
            x = x.reshape(*shape[:dim], len(M), *shape[dim + 1 :])
    return x


def gaussian_matrix(n: int, std: float) -> Tensor:
    """Gaussian smoothing of n samples, (n, n) float64: `scipy.ndimage.gaussian_filter1d(mode="reflect")`.

    Args:
        n: number of samples.
        std: standard deviation in samples; the kernel is cut at 4 std, and 0 gives the identity.

    Raises:
        ConfigError: when `std` is negative.
    """
    if not std >= 0:
        raise ConfigError(f"the standard deviation of a blur must be >= 0 voxels, got {std:g}")
    if std == 0:
        return torch.eye(n, dtype=torch.float64)
    reach = int(4 * std + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / std) ** 2)
    source = (torch.arange(n)[:, None] + offsets) % (2 * n)  # d c b a | a b c d | d c b a
    source = torch.minimum(source, 2 * n - 1 - source)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weights / weights.sum()).expand(n, -1))


def average_matrix(n: int, factor: int) -> Tensor:
    """Means of blocks of `factor` samples, (ceil(n / factor), n) float64; the last block may be shorter.

    Raises:
        ConfigError: when `factor` is not in 1 ... n.
    """
    if not 1 <= factor <= n:
        raise ConfigError(f"the factor must lie between 1 and the axis' length {n}, got {factor}")
    block = torch.arange(n) // factor
    matrix = (block == torch.arange(math.ceil(n / factor))[:, None]).double()
    return matrix / matrix.sum(1, keepdim=True)


def gaussian_blur(space: Space, std: Sequence[float]) -> Separable:
    """Gaussian blur with one standard deviation per spatial axis, in voxels; raises as `gaussian_matrix` does."""
    _one_per_axis("standard deviations", std, space)
    return Separable(space, [gaussian_matrix(n, s) for n, s in zip(space.shape[1:], std, strict=True)])


def average_pool(space: Space, factors: Sequence[int]) -> Separable:
    """Downsampling by block means, one factor per spatial axis, in voxels; raises as `average_matrix` does."""
    _one_per_axis("factors", factors, space)
    return Separable(space, [average_matrix(n, f) for n, f in zip(space.shape[1:], factors, strict=True)])


def _one_per_axis(name: str, values: Sequence[float], space: Space) -> None:
    if len(values) != len(space.shape) - 1:
        raise ShapeError(f"{len(values)} {name} given for images of {space}: one per spatial axis is needed")
