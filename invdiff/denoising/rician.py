"""What magnitudes have too much: the mean of |A + noise| lies above A where the signal is weak."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ive

Floats = NDArray[np.float32]


def mean(amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """E |A + n1 + i n2| for n ~ N(0, 1): sqrt(pi/2) L_1/2(-A^2 / 2) (Koay and Basser, JMR 2006)."""
    x = amplitude**2 / 4
    return np.sqrt(np.pi / 2) * ((1 + 2 * x) * ive(0, x) + 2 * x * ive(1, x))


def unbiased(magnitude: Floats, sigma: Floats) -> Floats:
    """A whose magnitude has this mean; 0 where it lies below the mean of noise alone.

    Args:
        magnitude: denoised, so that it stands for the mean, (X, Y, Z, V).
        sigma: of real and imaginary part, (X, Y, Z), > 0 where anything is to be changed.
    """
    amplitudes = np.concatenate([[0], np.geomspace(1e-3, 40, 4000)])
    noise = np.where(sigma > 0, sigma, 1)[..., None]
    ratio = magnitude / noise
    found = np.interp(ratio, mean(amplitudes), amplitudes)
    far = np.sqrt(np.maximum(ratio**2 - 1, 0))  # beyond the table, where the two agree
    out = noise * np.where(ratio > 40, far, found)
    return np.where(sigma[..., None] > 0, out, magnitude).astype(np.float32)
