"""What shares a volume's signal and not its noise: x' of Di-Fusion, for each volume of a series.

The best linear prediction of a volume from all others (Patch2Self, Fadnavis et al. 2020) is read off the inverse of
their covariance, for all volumes at once:

    x'_v = x_v - (Theta (x - mean))_v / Theta_vv,     Theta = C^-1,

since Theta's rows are the coefficients of those regressions. x_v itself cancels: what is left of its noise is what the
coefficients learned from it, V of n voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from invdiff.volumes.gradients import Gradients

Floats = NDArray[np.float32]
Kind = Literal["local", "patch2self", "previous-volume", "nearest-volume"]
RIDGE = 0.5  # of the noise's variance, beside that which is in the data


def paired(kind: Kind, x: Floats, sigma: NDArray[np.floating], gradients: Gradients) -> Floats:
    """x' of each volume.

    Args:
        kind: `previous-volume`, as Di-Fusion has it, the first from the last; `nearest-volume`, of the same shell and
            the nearest direction; `patch2self`, predicted by all others with one set of coefficients; `local`, with
            coefficients of each window.
        x: the series, (X, Y, Z, V), volumes of comparable scale.
        sigma: of the noise of each volume, (V,), in units of x.
        gradients: its table.
    """
    if kind == "previous-volume":
        return np.roll(x, 1, axis=-1)
    if kind == "nearest-volume":
        return x[..., nearest(gradients)]
    if kind == "local":
        return windowed(x, sigma)
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    return predicted(rows, 0 * sigma).reshape(x.shape).astype(x.dtype)


def nearest(gradients: Gradients) -> NDArray[np.intp]:
    """For each volume another one of its shell, the one of the nearest direction or its opposite; of b0s the next."""
    out = np.roll(np.arange(len(gradients)), 1)
    for index in (*gradients.shells().values(), np.flatnonzero(gradients.b0)):
        if len(index) > 1:
            along = abs(gradients.bvecs[index] @ gradients.bvecs[index].T)
            np.fill_diagonal(along, -1.0)
            best = np.roll(index, 1) if gradients.b0[index[0]] else index[along.argmax(1)]
            out[index] = best
    return out


def predicted(rows: NDArray[np.float64], ridge: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each column from all others, rows (n, V); with variances (V,) added to those of the columns."""
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / len(rows)
    theta = np.linalg.pinv(covariance + np.diag(ridge), hermitian=True)
    return rows - centred @ theta / np.maximum(theta.diagonal(), 1e-300)


def windowed(x: Floats, sigma: NDArray[np.floating]) -> Floats:
    """The same with coefficients of windows that overlap by half, of a dozen voxels a volume or more; means of these.

    Args:
        x: the series, (X, Y, Z, V).
        sigma: as of `paired`.
    """
    volumes = x.shape[-1]
    total, count = np.zeros(x.shape), np.zeros(x.shape[:3])
    for window in windows(x.shape[:3], 12 * volumes):
        rows = x[window].reshape(-1, volumes).astype(np.float64)
        total[window] += predicted(rows, RIDGE * sigma**2).reshape(x[window].shape)
        count[window] += 1
    return (total / count[..., None]).astype(x.dtype)


def windows(shape: tuple[int, ...], voxels: int) -> Iterator[tuple[slice, ...]]:
    """Cubes of at least so many voxels, flatter where the volume is, half overlapping; cut at the borders."""
    half = [0, 0, 0]
    while np.prod([2 * h + 1 for h in half]) < voxels and any(2 * h + 1 < n for h, n in zip(half, shape, strict=True)):
        half = [h + (2 * h + 1 < n) for h, n in zip(half, shape, strict=True)]
    centres = [range(0, n, max(1, h)) for n, h in zip(shape, half, strict=True)]
    for centre in product(*centres):
        yield tuple(slice(max(0, c - h), c + h + 1) for c, h in zip(centre, half, strict=True))
