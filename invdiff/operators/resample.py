"""Other voxels: block averages, areas at any ratio, bicubic and linear interpolation, slices with a profile.

Voxel j of n fine ones covers [j, j + 1]; coarse voxels lie side by side from 0 on, as in every scan whose field of view
is kept. Each function makes a matrix (m, n) in float64 whose rows sum to 1; `Separable` applies it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, sici
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.operators.separable import FWHM, Separable, one_per_axis
from invdiff.space import Space

Profile = Literal["box", "gaussian", "smooth"]
N = TypeVar("N", int, float)
REACH = 2.0  # profiles are cut this many thicknesses from the centre
LOBES = 2  # zero crossings of the windowed sinc on each side of its centre


def average_matrix(n: int, factor: int) -> Tensor:
    """Means of blocks of `factor` samples, (ceil(n / factor), n) float64; the last block may be shorter.

    Raises:
        ConfigError: when `factor` is not in 1 ... n.
    """
    _check_factor(n, factor)
    block = torch.arange(n) // factor
    matrix = (block == torch.arange(math.ceil(n / factor))[:, None]).double()
    return matrix / matrix.sum(1, keepdim=True)


def area_matrix(n: int, ratio: float) -> Tensor:
    """Means over coarse voxels of any size, (ceil(n / ratio), n) float64: partial volume.

    Each fine voxel counts by the part of it that the coarse one covers; the last coarse voxel may be cut at the edge.

    Args:
        n: number of fine voxels.
        ratio: size of a coarse voxel in fine ones, 1 ... n; `n / m` gives exactly m of them.

    Raises:
        ConfigError: when `ratio` is not in 1 ... n.
    """
    _check_factor(n, ratio)
    edges = ratio * np.arange(math.ceil(n / ratio - 1e-9), dtype=np.float64)  # n / (n / m) may exceed m by rounding
    return _rows(overlap(edges, edges + ratio, n))


def overlap(start: NDArray[np.float64], stop: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Length of [start_i, stop_i] inside voxel j = [j, j + 1], (m, n)."""
    j = np.arange(n)
    return np.clip(np.minimum(stop[:, None], j + 1) - np.maximum(start[:, None], j), 0, None)


def bicubic_matrix(n: int, ratio: float) -> Tensor:
    """Bicubic interpolation at the centres of coarse voxels, (ceil(n / ratio), n) float64.

    Keys' kernel with a = -1/2 (IEEE Trans. Acoust. Speech Signal Process. 1981), stretched by `ratio` against aliasing:
    `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`. Arguments and errors as in `area_matrix`.
    """
    _check_factor(n, ratio)
    centres = (np.arange(math.ceil(n / ratio - 1e-9)) + 0.5) * ratio
    t = np.abs(np.arange(n) + 0.5 - centres[:, None]) / ratio
    near, far = (1.5 * t - 2.5) * t**2 + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return _rows(np.where(t < 1, near, np.where(t < 2, far, 0)))


def linear_matrix(n: int, m: int) -> Tensor:
    """Linear interpolation from n coarse voxels to m fine ones of the same field of view, (m, n) float64.

    Beyond the outermost centres the image is taken for constant.

    Raises:
        ConfigError: no coarse voxel, or fewer fine ones than coarse ones.
    """
    if not 1 <= n <= m:
        raise ConfigError(f"linear interpolation is for smaller voxels: 1 to {m} become {m}, got {n}; average areas")
    centres = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return _rows(np.clip(1 - np.abs(centres[:, None] - np.arange(n)), 0, None))


def slice_matrix(n: int, pitch: float, thickness: float, profile: Profile = "box") -> Tensor:
    """Slices whose centres lie in the volume, `pitch` apart, (m, n) float64.

    Slice i is centred at (i + 1/2) pitch and weighs each fine voxel by the integral of its profile over it:

    - box: 1 over the thickness, 0 elsewhere;
    - gaussian: full width at half maximum = thickness;
    - smooth: what a Hann-windowed sinc pulse with two zero crossings on each side excites at small flip angles, the
      pulse's Fourier transform (Pauly, Nishimura and Macovski, J. Magn. Reson. 1989); thickness = its bandwidth.

    Args:
        n: number of fine voxels.
        pitch: distance of the slices in fine voxels, thickness + gap, > 0 and at most 2 n.
        thickness: in fine voxels, > 0.
        profile: one of the above.

    Raises:
        ConfigError: a thickness that is not positive, or slices so far apart that none is in the volume.
    """
    if not thickness > 0:
        raise ConfigError(f"slices need a thickness > 0, got {thickness:g} voxels; check thickness, factor and gap")
    m = math.floor(n / pitch + 0.5) if pitch > 0 else 0
    if m < 1:
        raise ConfigError(f"slices every {pitch:g} voxels do not fit an axis of {n}; choose thinner ones")
    centres = (np.arange(m) + 0.5) * pitch
    edges = np.clip((np.arange(n + 1) - centres[:, None]) / thickness, -REACH, REACH)
    return _rows(np.diff(CUMULATIVE[profile](edges), axis=1))


def average_pool(space: Space, factors: Sequence[int]) -> Separable:
    """Downsampling by block means, one factor per spatial axis, in voxels; raises as `average_matrix` does."""
    one_per_axis("factors", factors, space)
    return _along_each(space, factors, average_matrix)


def area_average(space: Space, ratios: Sequence[float]) -> Separable:
    """Means over voxels of any size, one ratio per spatial axis; raises as `area_matrix` does."""
    one_per_axis("ratios", ratios, space)
    return _along_each(space, ratios, area_matrix)


def bicubic(space: Space, ratios: Sequence[float]) -> Separable:
    """Bicubic downsampling, one ratio per spatial axis; raises as `bicubic_matrix` does."""
    one_per_axis("ratios", ratios, space)
    return _along_each(space, ratios, bicubic_matrix)


def resampled(space: Space, sizes: Sequence[int]) -> Separable:
    """The same field of view in `sizes` voxels, one number per spatial axis: mean areas of larger ones, else linear."""
    one_per_axis("sizes", sizes, space)
    pairs = zip(space.shape[1:], sizes, strict=True)
    return Separable(space, [None if m == n else _same_field(n, m) for n, m in pairs])


def thick_slices(space: Space, axis: int, pitch: float, thickness: float, profile: Profile = "box") -> Separable:
    """Thick slices along one spatial axis, counted from 0; the other axes stay. Arguments as in `slice_matrix`."""
    sizes = space.shape[1:]
    if not 0 <= axis < len(sizes):
        raise ConfigError(f"images of {space} have spatial axes 0 to {len(sizes) - 1}, not {axis}")
    matrix = slice_matrix(sizes[axis], pitch, thickness, profile)
    return Separable(space, [matrix if a == axis else None for a in range(len(sizes))])


def _along_each(space: Space, ratios: Sequence[N], matrix: Callable[[int, N], Tensor]) -> Separable:
    return Separable(space, [matrix(n, r) if r != 1 else None for n, r in zip(space.shape[1:], ratios, strict=True)])


def _same_field(n: int, m: int) -> Tensor:
    return linear_matrix(n, m) if m > n else area_matrix(n, n / m)


def _rows(weights: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(weights / weights.sum(1, keepdims=True))


def _check_factor(n: int, factor: float) -> None:
    if not 1 <= factor <= n:
        raise ConfigError(f"the factor must lie between 1 and the axis' length {n}, got {factor:g}")


def _box(u: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(u, -0.5, 0.5)


def _gaussian(u: NDArray[np.float64]) -> NDArray[np.float64]:
    return ndtr(u * FWHM)


def _smooth(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of the Fourier transform of sinc(t) cos^2(pi t / (2 LOBES)), |t| < LOBES."""
    shift = 1 / (2 * LOBES)  # the cosine of the window shifts half of the transform to either side
    return 0.5 * _cut_sinc(u) + 0.25 * (_cut_sinc(u + shift) + _cut_sinc(u - shift))


def _cut_sinc(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of the Fourier transform of sinc(t), |t| < LOBES, by the sine integral: int Si = v Si(v) + cos v."""
    b = math.pi * LOBES

    def integral(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return (v * sici(v)[0] + np.cos(v)) / (2 * b * math.pi)

    return integral(b * (1 + 2 * u)) - integral(b * (1 - 2 * u))


CUMULATIVE: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "box": _box,
    "gaussian": _gaussian,
    "smooth": _smooth,
}
