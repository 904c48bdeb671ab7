"""The map of structural similarity (Wang et al., IEEE TIP 2004), with scikit-image's windows, borders and constants.

A window is a banded matrix along each axis. Blocks of it are multiplied with blocks of the volume that fit into the
cache: three times as fast as scikit-image's filters and equal to rounding (`benchmarks/metrics.py`), without its
volumes of intermediate results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from invdiff.metrics.protocol import Protocol

Floats = NDArray[np.float64]
BLOCK = 16  # voxels a side: half or twice of it are as fast
K1, K2 = 0.01, 0.03


def ssim_map(x: Floats, reference: Floats, data_range: float | Floats, protocol: Protocol) -> Floats:
    """SSIM of each voxel.

    Args:
        x: image, (X, Y, Z) float64.
        reference: likewise.
        data_range: greater than zero; one number, or (Z,) for a range of each slice.
        protocol: says the window, its normalisation, and whether it reaches over slices.

    Returns:
        (X, Y, Z), -1 to 1.
    """
    axes = 3 if protocol.ssim == "3d" else 2
    first, *others = [_bands(n, protocol) for n in x.shape[:axes]]
    n = protocol.side**axes
    unbiased = n / (n - 1) if protocol.sample_covariance else 1.0
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    out = np.empty(x.shape)
    for kept, read, band in first:
        a, b = x[read], reference[read]
        moments = np.stack([a, b, a * b, a * a + b * b])
        smooth = (band @ moments.reshape(4, len(a), -1)).reshape(4, -1, *x.shape[1:])
        for row, plane in enumerate(np.moveaxis(smooth, 1, 0), kept.start):
            ux, uy, uxy, squares = _smoothed(plane, others)
            product, power = ux * uy, ux * ux + uy * uy
            covariance, variances = unbiased * (uxy - product), unbiased * (squares - power)
            out[row] = (2 * product + c1) * (2 * covariance + c2) / ((power + c1) * (variances + c2))
    return out


def _smoothed(plane: Floats, bands: list[list[tuple[slice, slice, Floats]]]) -> Floats:
    """Moments (4, Y, Z) of a plane, smoothed along Y and, if there are bands for it, along Z."""
    for axis, blocks in enumerate(bands, 1):
        out = np.empty(plane.shape)
        for kept, read, band in blocks:
            if axis == 1:
                np.matmul(band, plane[:, read], out=out[:, kept])
            else:
                np.matmul(plane[..., read], band.T, out=out[..., kept])
        plane = out
    return plane


def _bands(n: int, protocol: Protocol) -> list[tuple[slice, slice, Any]]:
    """The window as a matrix along an axis of n voxels, mirrored at its ends; in blocks: rows, columns, entries."""
    return list(_blocks(_matrix(n, protocol), protocol.side // 2))


def _matrix(n: int, protocol: Protocol) -> Floats:
    one = np.eye(n)
    if protocol.window == "uniform":
        return uniform_filter1d(one, protocol.side, axis=0)
    return gaussian_filter1d(one, 1.5, axis=0, radius=protocol.side // 2)


def _blocks(matrix: Floats, reach: int) -> Iterator[tuple[slice, slice, Floats]]:
    n = len(matrix)
    for start in range(0, n, BLOCK):
        kept = slice(start, min(start + BLOCK, n))
        read = slice(max(start - reach, 0), min(kept.stop + reach, n))
        yield kept, read, np.ascontiguousarray(matrix[kept, read])
