"""One matrix per axis: Gaussian blur and average pooling (and any other separable physics).

Banded matrices stored dense and applied by matrix products are the fastest form on a CPU, take any boundary rule, have
an exact adjoint, and shrink an axis when they are rectangular.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import SVDOperator
from invdiff.space import Space

SVD = tuple[Tensor, Tensor, Tensor]


class Separable(SVDOperator):
    """y = (M_1 x M_2 x ...) x on (C, *spatial), with matrices (m_i, n_i), one for each spatial axis.

    Raises:
        ShapeError: number or width of the matrices does not match the spatial shape.
    """

    def __init__(self, space: Space, matrices: Sequence[Tensor]) -> None:
        super().__init__()
        widths = tuple(m.shape[1] for m in matrices)
        if widths != space.shape[1:]:
            raise ShapeError(f"matrices of widths {widths} do not fit images of {space.shape[1:]}")
        for i, m in enumerate(matrices):
            self.register_buffer(f"M{i}", m.to(space.dtype))
        self.domain = space
        self.range = Space((space.shape[0], *(m.shape[0] for m in matrices)), space.dtype)

    @property
    def matrices(self) -> list[Tensor]:
        """The matrices, one per axis."""
        return [getattr(self, f"M{i}") for i in range(len(self.domain.shape) - 1)]

    def forward(self, x: Tensor) -> Tensor:
        """Apply each matrix along its axis."""
        return _along_axes(x, self.matrices)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply each transposed matrix along its axis."""
        return _along_axes(y, [m.T for m in self.matrices])

    @cached_property
    def factors(self) -> list[SVD]:
        """U (m, k), s (n,) and V (n, n) of each matrix, in float64 and then rounded; s is padded with zeros."""
        return [_full_svd(m) for m in self.matrices]

    @property
    def singular_values(self) -> Tensor:  # type: ignore[override]
        """Outer product of the axes' singular values, shaped like one channel."""
        s = torch.ones((), dtype=self.domain.dtype, device=self.M0.device)
        for _, s_i, _ in self.factors:
            s = s[..., None] * s_i
        return s

    def U(self, modes: Tensor) -> Tensor:
        """The first m_i modes of each axis, turned into measurements."""
        return _along_axes(modes, [u for u, _, _ in self.factors])

    def UH(self, y: Tensor) -> Tensor:
        """Adjoint of U."""
        return _along_axes(y, [u.T for u, _, _ in self.factors])

    def V(self, modes: Tensor) -> Tensor:
        """Modes to images."""
        return _along_axes(modes, [v for _, _, v in self.factors])

    def VH(self, x: Tensor) -> Tensor:
        """Images to modes."""
        return _along_axes(x, [v.T for _, _, v in self.factors])


def gaussian_matrix(n: int, std: float) -> Tensor:
    """Gaussian smoothing of n samples, (n, n) float64; `std` in samples, cut at 4 std, reflecting borders.

    Equals `scipy.ndimage.gaussian_filter1d(mode="reflect")`. `std` = 0 is the identity.
    """
    if std < 0:
        raise ConfigError(f"the standard deviation of a blur must be >= 0, got {std:g}")
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
    """Means of blocks of `factor` samples, (ceil(n / factor), n) float64; the last block may be shorter."""
    if not 1 <= factor <= n:
        raise ConfigError(f"the factor must lie between 1 and the axis' length {n}, got {factor}")
    block = torch.arange(n) // factor
    matrix = (block[None] == torch.arange(-(-n // factor))[:, None]).double()
    return matrix / matrix.sum(1, keepdim=True)


def gaussian_blur(space: Space, std: Sequence[float]) -> Separable:
    """Gaussian blur with one standard deviation per spatial axis, in voxels."""
    return Separable(space, [gaussian_matrix(n, s) for n, s in zip(space.shape[1:], std, strict=True)])


def average_pool(space: Space, factors: Sequence[int]) -> Separable:
    """Downsampling by averaging blocks, one integer factor per spatial axis."""
    return Separable(space, [average_matrix(n, f) for n, f in zip(space.shape[1:], factors, strict=True)])


def _along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    for axis, m in enumerate(matrices, start=2):
        if axis == x.ndim - 1:
            x = x @ m.T
        else:
            x = torch.movedim(torch.movedim(x, axis, -1) @ m.T, -1, axis)
    return x


def _full_svd(m: Tensor) -> SVD:
    u, s, vh = torch.linalg.svd(m.double(), full_matrices=True)
    n, k = m.shape[1], len(s)
    # U keeps one column per mode: modes beyond the matrix' rank have no measurement.
    columns = torch.cat([u[:, :k], u.new_zeros(len(u), n - k)], dim=1)
    return columns.to(m), torch.cat([s, s.new_zeros(n - k)]).to(m), vh.T.contiguous().to(m)
