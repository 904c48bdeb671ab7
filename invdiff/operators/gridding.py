"""Fourier samples off the grid without other libraries: Kaiser-Bessel interpolation from an FFT of twice the size.

Jackson et al., IEEE TMI 1991; Fessler and Sutton, IEEE TSP 2003; the kernel's parameter after Beatty et al., IEEE TMI
2005. Interpolation is a sparse matrix, so the adjoint is its exact transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product as choices

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import i0
from torch import Tensor, nn

from invdiff.errors import ConfigError
from invdiff.operators.sparse import csr, product
from invdiff.space import Space

Array = NDArray[np.float64]
MAX_BYTES = 2**31
BLOCK = 2**22  # cells of the doubled grid that are held at once: 32 MiB of complex64


class Gridding(nn.Module):
    """y(k) = sum_j x_j exp(-2 pi i k j / n) with j = 0 at pixel n // 2 of each axis.

    Args:
        space: complex images, (C, *spatial).
        trajectory: (samples, axes) in cycles per field of view, within [-n / 2, n / 2].
        tolerance: relative error of y; the kernel is as wide as that needs.

    Raises:
        ConfigError: matrices of more than 2 GiB.
    """

    apodisation: Tensor
    matrix: Tensor
    transpose: Tensor

    def __init__(self, space: Space, trajectory: Array, tolerance: float) -> None:
        super().__init__()
        spatial, real = space.shape[1:], space.dtype.to_real()
        width = width_of(tolerance)
        size = 2 * len(trajectory) * width ** len(spatial) * (4 + real.itemsize)
        if size > MAX_BYTES:
            raise ConfigError(
                f"gridding {len(trajectory)} samples in {len(spatial)}-D to {tolerance:g} needs matrices of "
                f'{size / 2**30:.1f} GiB; pip install "invdiff[mri]" for finufft, or raise the tolerance'
            )
        self.spatial, self.grid = spatial, tuple(2 * n for n in spatial)
        A = interpolation(trajectory, spatial, width)
        self.register_buffer("matrix", csr(A, real))
        self.register_buffer("transpose", csr(A.T.tocsr(), real))
        axes = [1 / kernel_transform((np.arange(n) - n // 2) / (2 * n), width) for n in spatial]
        outer = np.prod(np.meshgrid(*axes, indexing="ij"), axis=0)
        self.register_buffer("apodisation", torch.from_numpy(outer).to(real))
        # Pixel n // 2 goes to index 0 of the grid: each half of an axis moves to the other end.
        halves = [((slice(0, n // 2), slice(2 * n - n // 2, 2 * n)), (slice(n // 2, n), slice(0, n - n // 2)))
                  for n in spatial]  # fmt: skip
        self.blocks = [tuple(zip(*chosen, strict=True)) for chosen in choices(*halves)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) -> (B, C, samples)."""
        return self._by_blocks(self._sample, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, samples) -> (B, C, *spatial)."""
        return self._by_blocks(self._spread, y)

    def _sample(self, x: Tensor) -> Tensor:
        x = x * self.apodisation
        grid = x.new_zeros(len(x), *self.grid)
        for pixels, cells in self.blocks:
            grid[(..., *cells)] = x[(..., *pixels)]
        return _times(self.matrix, torch.fft.fftn(grid, dim=self._axes))

    def _spread(self, y: Tensor) -> Tensor:
        grid = _times(self.transpose, y).unflatten(1, self.grid)
        grid = torch.fft.ifftn(grid, dim=self._axes, norm="forward")
        x = grid.new_empty(len(y), *self.spatial)
        for pixels, cells in self.blocks:
            x[(..., *pixels)] = grid[(..., *cells)]
        return x.mul_(self.apodisation)

    def _by_blocks(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """f of all images, as many at once as memory allows; the last block is filled up: equal ones round alike."""
        images, at_once = x.flatten(0, 1), max(1, BLOCK // math.prod(self.grid))
        count = len(images)
        if count <= at_once:
            return f(images).unflatten(0, x.shape[:2])
        size = math.ceil(count / math.ceil(count / at_once))
        images = torch.cat([images, images.new_zeros(-count % size, *images.shape[1:])])
        return torch.cat([f(block) for block in images.split(size)])[:count].unflatten(0, x.shape[:2])

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.spatial), 0))


def _times(M: Tensor, z: Tensor) -> Tensor:
    """Real M times complex (images, ...) -> (images, rows); real and imaginary parts are columns of one matrix."""
    columns = torch.view_as_real(z.resolve_conj().flatten(1)).transpose(0, 1).flatten(1)
    rows = product(M, columns).unflatten(1, (-1, 2)).transpose(0, 1).contiguous()
    return torch.view_as_complex(rows)


def width_of(tolerance: float) -> int:
    """Width of the kernel in grid cells: each adds a digit, measured 0.5 * 10^(1 - width) against the direct sum."""
    return max(2, math.ceil(-math.log10(tolerance)) + 1)


def beta(width: int) -> float:
    """Shape parameter for a grid of twice the size (Beatty et al. 2005, eq. 5)."""
    return math.pi * math.sqrt((width * 0.75) ** 2 - 0.8)


def kernel(u: Array, width: int) -> Array:
    """The Kaiser-Bessel window at u grid cells from its centre; 1 there."""
    return i0(beta(width) * np.sqrt(np.maximum(1 - (2 * u / width) ** 2, 0))) / i0(beta(width))


def kernel_transform(nu: Array, width: int) -> Array:
    """Fourier transform of `kernel` at nu cycles per grid cell, within 1/4 of 0."""
    z = np.sqrt(beta(width) ** 2 - (np.pi * width * nu) ** 2)
    return width * np.sinh(z) / (z * i0(beta(width)))


def interpolation(trajectory: Array, spatial: tuple[int, ...], width: int) -> sparse.csr_array:
    """From the doubled grid, DC at index 0 and periodic, to the samples: (samples, cells).

    Args:
        trajectory: (samples, axes) in cycles per field of view.
        spatial: shape of the image; the grid is twice as long along each axis.
        width: of the kernel, in grid cells.
    """
    cells, values = np.zeros((len(trajectory), 1), np.int32), np.ones((len(trajectory), 1))
    for u, n in zip(2 * trajectory.T, spatial, strict=True):
        taps = np.ceil(u - width / 2)[:, None] + np.arange(width)
        weights = kernel(u[:, None] - taps, width)
        index = np.mod(taps, 2 * n).astype(np.int32)
        cells = (cells[:, :, None] * (2 * n) + index[:, None, :]).reshape(len(u), -1)
        values = (values[:, :, None] * weights[:, None, :]).reshape(len(u), -1)
    starts = np.arange(len(cells) + 1) * cells.shape[1]
    A = sparse.csr_array((values.ravel(), cells.ravel(), starts), shape=(len(cells), math.prod(2 * n for n in spatial)))
    A.sum_duplicates()  # sorts too; an image shorter than the kernel meets itself again
    return A


def density(trajectory: Array, spatial: tuple[int, ...], *, width: int = 4, iterations: int = 30) -> Array:
    """Weights w such that the weighted samples, seen through the kernel, are equally dense: C C^T w = 1.

    Pipe and Menon, MRM 1999: w <- w / (C C^T w), with the interpolation matrix C.

    Args:
        trajectory: (samples, axes) in cycles per field of view.
        spatial: shape of the image.
        width: of the kernel, in half cycles per field of view.
        iterations: of the fixed point.

    Returns:
        Positive weights, (samples,), up to a common factor.
    """
    C = interpolation(trajectory, spatial, width)
    T = C.T.tocsr()
    w = np.ones(len(trajectory))
    for _ in range(iterations):
        w /= C @ (T @ w)
    return w
