"""Blur kernels: of a patient or detector that moves, of Gaussians, and measured ones from files.

All are float64, sum to 1 and have their centre at sample k // 2 along each axis, where `invdiff.operators.convolution`
expects it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.arrays import load_npy
from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.resample import overlap
from invdiff.operators.separable import FWHM

Floats = NDArray[np.float64]
STEPS = 1000  # points of a path; the exposure is the same at each


def straight_path(length: float, angle: float) -> Floats:
    """A straight line at constant speed, (T, 2) in mm.

    Args:
        length: in mm.
        angle: in degrees, from the first axis towards the second.
    """
    direction = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    return length * ((np.arange(STEPS) + 0.5) / STEPS - 0.5)[:, None] * direction


def random_path(length: float, dimensions: int, generator: torch.Generator) -> Floats:
    """A shaking hand, (T, dimensions) in mm (Boracchi and Foi, IEEE Trans. Image Process. 2012).

    A particle at constant speed whose direction changes by Gaussian kicks, a pull back to its start, and now and then
    an impulse that turns it round.

    Args:
        length: of the path in mm; its extent is shorter.
        dimensions: 2 or 3.
        generator: of all draws.
    """
    speed = length / STEPS
    kicks = 0.15 * torch.randn(STEPS, dimensions, generator=generator, dtype=torch.float64).numpy()
    shakes = torch.rand(STEPS, generator=generator, dtype=torch.float64).numpy() < 1 / STEPS
    pull = 0.1 / length  # at a distance of the whole length the pull would turn the particle in ten steps
    v = torch.randn(dimensions, generator=generator, dtype=torch.float64).numpy()
    v /= np.linalg.norm(v)
    path = np.zeros((STEPS, dimensions))
    for t in range(1, STEPS):
        v = (-v if shakes[t] else v) + kicks[t] - pull * path[t - 1]
        v /= np.linalg.norm(v)
        path[t] = path[t - 1] + speed * v
    return path


def rasterise(path: Floats, spacing: Sequence[float]) -> Tensor:
    """The kernel of a motion: how long it stays in each voxel, linear between voxels, with its mean at the centre.

    Args:
        path: positions at equal times, (T, d) in mm.
        spacing: voxel size in mm, (d,).

    Returns:
        Odd sizes, just large enough for the path.
    """
    path = (path - path.mean(0)) / np.asarray(spacing)
    reach = np.ceil(np.abs(path).max(0) - 1e-9).astype(int)
    base = np.floor(path).astype(int)
    kernel = np.zeros(2 * reach + 3)  # one more on each side: weights there are 0, but indices are valid
    for corner in product((0, 1), repeat=path.shape[1]):
        weight = np.prod(1 - np.abs(path - base - corner), axis=1)
        np.add.at(kernel, tuple((base + corner + reach + 1).T), weight)
    inner = tuple(slice(1, -1) for _ in reach)
    return normalised(torch.from_numpy(kernel[inner]), "the motion's kernel")


def gaussian(std: Sequence[float], shape: Sequence[int]) -> Tensor:
    """A Gaussian with one standard deviation in voxels per axis, cut to odd `shape`."""
    offsets = (np.arange(n) - n // 2 for n in shape)
    axes = [np.exp(-0.5 * (o / s) ** 2) for o, s in zip(offsets, std, strict=True)]
    return normalised(torch.from_numpy(reduce(np.multiply.outer, axes)), "the Gaussian")


def widening(fwhm: tuple[float, float], grid: Sequence[int], spacing: Sequence[float], sizes: Sequence[int]) -> Tensor:
    """Gaussians on a grid of regions, wider towards the corners of the image, (*grid, *kernel).

    Args:
        fwhm: full width at half maximum in mm, of the region in the middle and of those in the corners; in between it
            is linear in the distance from the middle, counted in halves of the image.
        grid: number of regions along each axis.
        spacing: voxel size in mm.
        sizes: of the image; kernels reach 4 standard deviations, or as far as the image is large.
    """
    widest = [max(fwhm) / FWHM / mm for mm in spacing]
    shape = [2 * min(math.ceil(4 * s), (n - 1) // 2) + 1 for s, n in zip(widest, sizes, strict=True)]
    farthest = math.hypot(*(1 - 1 / g for g in grid)) or 1.0
    kernels = []
    for node in product(*map(range, grid)):
        distance = math.hypot(*((2 * k + 1) / g - 1 for k, g in zip(node, grid, strict=True))) / farthest
        width = fwhm[0] + (fwhm[1] - fwhm[0]) * distance
        kernels.append(gaussian([width / FWHM / mm for mm in spacing], shape))
    return torch.stack(kernels).reshape(*grid, *shape)


def read_kernel(path: Path, spacing: Sequence[float]) -> Tensor:
    """A measured kernel, as one of voxels of `spacing` mm.

    A .npy file counts in voxels of the image. A NIfTI file has a voxel size of its own: its values are densities, and a
    voxel of the image gets what falls into it, so that no resampling changes the blur's mean or width.

    Args:
        path: .npy, .nii or .nii.gz; 2-D kernels may have a third axis of 1.
        spacing: of the image in mm, one for each axis that is blurred.

    Raises:
        FileError: missing, unreadable or of another format.
        ShapeError: another number of axes.
        ConfigError: empty, values that are no finite real numbers, or a sum that is not positive.
    """
    values, mm = read_array(path, (len(spacing),))
    if mm is not None:
        mm = mm[: len(spacing)]
        for axis, (own, of_image) in enumerate(zip(mm, spacing, strict=True)):
            values = np.moveaxis(np.tensordot(_shares(values.shape[axis], own, of_image), values, (1, axis)), 0, axis)
    return normalised(torch.from_numpy(np.ascontiguousarray(values)), str(path))


def read_array(path: Path, dimensions: tuple[int, ...]) -> tuple[Floats, tuple[float, ...] | None]:
    """Numbers from a .npy or NIfTI file and their voxel size in mm, which a .npy file does not tell: None.

    Args:
        path: .npy, .nii or .nii.gz.
        dimensions: number of axes that are welcome; a last axis of 1 is left out where that makes it one of them.

    Raises:
        FileError: missing, unreadable or of another format; values that are no real numbers.
        ShapeError: another number of axes.
    """
    path = Path(path)
    mm: tuple[float, ...] | None = None
    if path.suffix == ".npy":
        values = load_npy(path).astype(np.float64)
    else:
        from invdiff import volumes

        volume = volumes.load(path)
        mm = volume.spacing
        values = (volume.data[0] if len(volume.data) == 1 else volume.data).double().numpy()
    if values.ndim not in dimensions and values.ndim - 1 in dimensions and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in dimensions:
        found, want = "x".join(map(str, values.shape)), " or ".join(map(str, dimensions))
        raise ShapeError(f"{path} holds {found} numbers, {want} axes are needed; cut it or choose another file")
    return np.asarray(values, np.float64), mm


def normalised(kernel: Tensor, name: str) -> Tensor:
    """Divided by its sum, so that the blur keeps the mean.

    Raises:
        ConfigError: `name` is empty, not finite, or sums to 0 or less.
    """
    if kernel.numel() == 0:
        raise ConfigError(f"{name} is empty; a kernel needs at least one value")
    if not bool(torch.isfinite(kernel).all()):
        raise ConfigError(f"{name} holds NaN or infinite values; clean it first, nothing is repaired here")
    total = float(kernel.sum())
    if not total > 0:
        raise ConfigError(f"{name} sums to {total:g}; a blur needs a positive sum, to keep the mean of the image")
    return kernel / total


def _shares(n: int, own: float, of_image: float) -> Floats:
    """What part of each of a kernel's n voxels falls into each voxel of the image, (m, n); m is odd, centres agree."""
    centre, ratio = n // 2 + 0.5, of_image / own
    reach = max(0, math.ceil(max(centre, n - centre) / ratio - 0.5 - 1e-6))
    start = centre + ratio * (np.arange(-reach, reach + 1, dtype=np.float64) - 0.5)
    return overlap(start, start + ratio, n)
