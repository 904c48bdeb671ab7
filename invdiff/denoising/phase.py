"""Complex series: the smooth phase of each slice is taken off, so that signal is real and its noise Gaussian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from invdiff.errors import ShapeError

Floats = NDArray[np.float32]


def real_part(a: Floats, b: Floats, *, polar: bool, width: float = 2.0) -> Floats:
    """The real part after the phase of each slice of each volume was turned back.

    Motion gives every weighted volume a phase of its own. It is smooth: that of the image after a Gaussian filter in
    the slice, weighted by magnitude as it comes. What is left of it is signal in the imaginary part, and lost.

    Args:
        a, b: real and imaginary part, or magnitude and phase in radians, (X, Y, Z, V).
        polar: whether they are the latter.
        width: of the filter, standard deviation in voxels.

    Raises:
        ShapeError: of different shapes.
    """
    if a.shape != b.shape:
        raise ShapeError(f"the two parts of a complex series have shapes {a.shape} and {b.shape}; give the same grid")
    image = a * np.exp(1j * b) if polar else a + 1j * b
    smooth = image
    for axis in (0, 1):
        parts = (gaussian_filter1d(part, width, axis=axis) for part in (smooth.real, smooth.imag))
        real, imaginary = parts
        smooth = real + 1j * imaginary
    turn = np.divide(smooth.conj(), abs(smooth), out=np.ones_like(smooth), where=abs(smooth) > 0)
    return (image * turn).real.astype(np.float32)
