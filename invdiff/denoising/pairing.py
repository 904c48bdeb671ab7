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


def paired(
    kind: Kind, x: Floats, sigma: NDArray[np.floating], gradients: Gradients, per_volume: float = 12.0
) -> Floats:
    """x' of each volume.

    Args:
        kind: `previous-volume`, as Di-Fusion has it, the first from the last; `nearest-volume`, of the same shell and
            the nearest direction; `patch2self`, predicted by all others with one set of coefficients; `local`, with
            coefficients of each window.
        x: the series, (X, Y, Z, V), volumes of comparable scale.
        sigma: of the noise of each volume, (V,), in units of x.
        gradients: its table.
        per_volume: voxels of a window, for each volume.
    """
    if kind == "previous-volume":
        return np.roll(x, 1, axis=-1)
    if kind == "nearest-volume":
        return x[..., nearest(gradients)]
    if kind == "local":
        return windowed(x, sigma, per_volume)
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
    """Each column from all others, rows (n, V); with variances (V,) added to those of the columns.

    A column of which the others explain no more than they would of noise, F <= 1, is predicted by its mean; from F = 2
    up by its regression. So nothing but noise comes out flat, and where there is signal nothing changes.
    """
    mean = rows.mean(0)
    residual, f = regressed(rows - mean, ridge)
    return mean + np.clip(f - 1, 0, 1) * (rows - mean - residual)


def regressed(
    centred: NDArray[np.float64], ridge: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the regression of each column on all others leaves, (n, V), and its ratio F of what it explains, (V,).

    F = |explained|^2 / tr S^2 over |residual|^2 / tr (1 - S)^2, S the smoother, is 1 of noise, in expectation.
    """
    n = len(centred)
    covariance = centred.T @ centred / n
    theta = np.linalg.pinv(covariance + np.diag(ridge), hermitian=True)
    residual = centred @ theta / np.maximum(theta.diagonal(), 1e-300)
    S = theta @ covariance
    squares = (S * S.T).sum()
    noise = (residual**2).sum(0) / max(n - 1 - 2 * np.trace(S) + squares, 1.0)
    return residual, ((centred - residual) ** 2).sum(0) / np.maximum(squares * noise, 1e-300)


def windowed(x: Floats, sigma: NDArray[np.floating], per_volume: float) -> Floats:
    """The same with coefficients of windows that overlap by half or more; means of what these say.

    Args:
        x: the series, (X, Y, Z, V).
        sigma, per_volume: as of `paired`.
    """
    volumes = x.shape[-1]
    total, count = np.zeros(x.shape), np.zeros(x.shape[:3])
    for window in windows(x.shape[:3], per_volume * volumes):
        rows = x[window].reshape(-1, volumes).astype(np.float64)
        total[window] += predicted(rows, RIDGE * sigma**2).reshape(x[window].shape)
        count[window] += 1
    return (total / count[..., None]).astype(x.dtype)


def windows(shape: tuple[int, ...], voxels: float) -> Iterator[tuple[slice, ...]]:
    """Cubes of at least so many voxels, flatter where the volume is, half overlapping or more; all of one size."""
    half, sizes = [0, 0, 0], [1, 1, 1]
    while np.prod(sizes) < voxels and sizes != list(shape):
        half = [h + (s < n) for h, s, n in zip(half, sizes, shape, strict=True)]
        sizes = [min(2 * h + 1, n) for h, n in zip(half, shape, strict=True)]
    lasts = [n - s for n, s in zip(shape, sizes, strict=True)]
    starts = [sorted({*range(0, last, max(1, h)), last}) for last, h in zip(lasts, half, strict=True)]
    for start in product(*starts):
        yield tuple(slice(s, s + size) for s, size in zip(start, sizes, strict=True))
