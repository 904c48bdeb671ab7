"""What the high-frequency error norm looks at (Ravishankar and Bresler, IEEE TMI 2011)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

SIGMA = 1.5  # voxels
STEPS = np.arange(-7, 8)  # 15 x 15
GAUSSIAN = np.exp(-0.5 * (STEPS / SIGMA) ** 2) / np.exp(-0.5 * (STEPS / SIGMA) ** 2).sum()
SECOND = (STEPS**2 / SIGMA**4 - 1 / SIGMA**2) * GAUSSIAN
EVEN = np.full(len(STEPS), 1 / len(STEPS))
# The sampled kernel sums to nearly 0; the rest is taken off evenly, as by MATLAB's fspecial: an offset is no detail.
KERNEL = ((SECOND, GAUSSIAN), (GAUSSIAN, SECOND), (EVEN, -2 * SECOND.sum() * EVEN))


def fine_detail(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Laplacian of Gaussian of each slice (X, Y) of a volume (X, Y, Z), mirrored at the borders."""
    first, *others = (correlate1d(correlate1d(volume, a, 0), b, 1) for a, b in KERNEL)
    return sum(others, first)
