"""What the high-frequency error norm looks at (Ravishankar and Bresler, IEEE TMI 2011)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from invdiff.metrics.banded import Block, along_rows, blocks

SIGMA, REACH = 1.5, 7  # voxels; 15 x 15
STEPS = np.arange(-REACH, REACH + 1)
GAUSSIAN = np.exp(-0.5 * (STEPS / SIGMA) ** 2) / np.exp(-0.5 * (STEPS / SIGMA) ** 2).sum()
SECOND = (STEPS**2 / SIGMA**4 - 1 / SIGMA**2) * GAUSSIAN
EVEN = np.full(len(STEPS), 1 / len(STEPS))
# The sampled kernel sums to nearly 0; the rest is taken off evenly, as by MATLAB's fspecial: an offset is no detail.
KERNEL = ((SECOND, GAUSSIAN), (GAUSSIAN, SECOND), (EVEN, -2 * SECOND.sum() * EVEN))


def fine_detail(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Laplacian of Gaussian of each slice (X, Y) of a volume (X, Y, Z), mirrored at the borders."""
    out = np.zeros(volume.shape)
    for first, second in KERNEL:
        along_y = _blocks(second, volume.shape[1])
        for block in _blocks(first, volume.shape[0]):
            read = volume[block.read]
            rows = (block.entries @ read.reshape(len(read), -1)).reshape(-1, *volume.shape[1:])
            out[block.kept] += along_rows(along_y, rows)
    return out


def _blocks(weights: NDArray[np.float64], n: int) -> list[Block]:
    return blocks(correlate1d(np.eye(n), weights, 0), REACH)
