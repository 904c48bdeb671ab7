"""The map of structural similarity (Wang et al., IEEE TIP 2004), with scikit-image's windows, borders and constants.

Windows are banded matrices: two to three times as fast as scikit-image's filters and equal to rounding, without its
volumes of intermediate results in three dimensions (`benchmarks/metrics.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from invdiff.metrics.banded import Block, along_columns, along_rows, blocks
from invdiff.metrics.protocol import Protocol

Floats = NDArray[np.float64]
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
    windows = [_window(n, protocol) for n in x.shape[:axes]]
    count = protocol.side**axes
    unbiased = count / (count - 1) if protocol.sample_covariance else 1.0
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    out = np.empty(x.shape)
    for block in windows[0]:
        a, b = x[block.read], reference[block.read]
        moments = np.stack([a, b, a * b, a * a + b * b])
        smooth = (block.entries @ moments.reshape(4, len(a), -1)).reshape(4, -1, *x.shape[1:])
        for row, plane in enumerate(np.moveaxis(smooth, 1, 0), block.kept.start):
            plane = along_rows(windows[1], plane)
            ux, uy, uxy, squares = along_columns(windows[2], plane) if axes == 3 else plane
            product, power = ux * uy, ux * ux + uy * uy
            covariance, variances = unbiased * (uxy - product), unbiased * (squares - power)
            out[row] = (2 * product + c1) * (2 * covariance + c2) / ((power + c1) * (variances + c2))
    return out


def _window(n: int, protocol: Protocol) -> list[Block]:
    """Along an axis of n voxels, mirrored at its ends."""
    one, half = np.eye(n), protocol.side // 2
    if protocol.window == "uniform":
        return blocks(uniform_filter1d(one, protocol.side, axis=0), half)
    return blocks(gaussian_filter1d(one, 1.5, axis=0, radius=half), half)
