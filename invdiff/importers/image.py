"""Images that are the measurement: coarse, blurred, noisy or incomplete ones, taken at their word."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from invdiff.acquisitions import Acquisition, Inpaint
from invdiff.errors import ConfigError
from invdiff.importers.level import UNKNOWN, Level, with_level
from invdiff.measurements import Measurement, check_count, elements, sides
from invdiff.noise.estimate import from_image
from invdiff.noise.gaussian import GaussianNoise
from invdiff.space import Space
from invdiff.volumes import Volume, header_bytes
from invdiff.volumes.geometry import Affine


def measurement(volume: Volume, acquisition: Acquisition, *, axis: int = 2, level: Level = UNKNOWN) -> Measurement:
    """The measurement that a volume is, by an acquisition whose measurements are images.

    The unknown has `acquisition.finer` voxels for each measured one, and covers the same place in the world.

    Args:
        volume: what was measured.
        acquisition: how: lowres, thickslices, the blurs, denoise or inpaint.
        axis: stored axis that counts the slices.
        level: what the user says of the noise; else the volume's finest wavelets tell.

    Raises:
        ConfigError: an acquisition whose measurements are no images, or random missing voxels: only a file can say
            which of a real image are missing.
    """
    name = type(acquisition).__name__.lower()
    if isinstance(acquisition, Inpaint) and acquisition.mask is None:
        raise ConfigError(
            "which voxels of a real image are missing, only a mask can say; give --set acquisition.mask=FILE"
        )
    factors = _factors(acquisition, axis)
    frames, *sizes = volume.data.shape
    shape = (frames, *(n * f for n, f in zip(sizes, factors, strict=True)))
    header = header_bytes(
        Volume(torch.zeros(()).expand(shape), finer(volume.affine, factors), volume.header, volume.series)
    )
    space = Space((1, *sides(shape[1:], acquisition, axis)))
    spacing = sides([mm / f for mm, f in zip(volume.spacing, factors, strict=True)], acquisition, axis)
    maps = acquisition.maps(space, spacing, seed=0)
    operator = acquisition.operator(space, spacing, maps)
    y = images = elements(volume.data, acquisition, axis)
    check_count(operator, len(images))
    if isinstance(acquisition, Inpaint):
        y = operator(images)  # the voxels that are left
        if not level.given and bool((operator.adjoint(y) == images).all()):
            raise ConfigError(
                "missing voxels that are 0 in the image hide its noise level; give it by --sigma, or by --noise"
            )
    elif operator.range.shape != tuple(images.shape[1:]) or operator.range.dtype.is_complex:
        raise ConfigError(
            f"{name} measures {operator.range}, the image holds {Space(tuple(images.shape[1:]))}: it cannot be what "
            f"{name} measured; choose lowres, thickslices, a blur, denoise or inpaint"
        )
    sigma = 0.0 if level.given else from_image(_slices(images))
    facts = {"simulated": False, "imported": "image", "noise_from": "finest wavelets"}
    m = Measurement(
        y, acquisition, maps, GaussianNoise(sigma), cast(tuple[int, int, int, int], shape), axis, header, facts
    )
    return with_level(m, level)


def finer(affine: Affine, factors: tuple[int, ...]) -> Affine:
    """Where `factors` (3,) times as many voxels lie that fill the same volume.

    Voxel j of the fine ones has its centre at (j - (f - 1) / 2) / f of the coarse index.
    """
    f = np.array(factors, np.float64)
    move = np.diag([*(1 / f), 1.0])
    move[:3, 3] = (1 / f - 1) / 2
    return affine @ move


def _factors(acquisition: Acquisition, axis: int) -> tuple[int, ...]:
    """Along the three stored axes."""
    if acquisition.volumetric:
        return acquisition.finer(3)
    factors = list(acquisition.finer(2))
    factors.insert(axis, 1)
    return tuple(factors)


def _slices(images: Tensor) -> Tensor:
    """(P, 1, H, W), of volumes along their last axis."""
    return images if images.ndim == 4 else images.movedim(-1, 1).flatten(0, 1)
