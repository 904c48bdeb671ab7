"""Where k-space is sampled off the grid: (samples, axes) in cycles per field of view, float64.

The unit cell of an image of n voxels is [-n / 2, n / 2) along each axis; DC is at 0. Extents are in fractions of it, so
that along each axis the resolution is that of the image, and a circle in k-space is one where voxels are isotropic.
Samples follow each other spoke by spoke, interleaf by interleaf, partition by partition.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invdiff.arrays import load_npy
from invdiff.errors import ConfigError, FileError

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2  # 111.25 degrees
GOLDEN_MEANS = (0.46557123187676802665, 0.68232780382801932737)  # 1 / phi^2 and 1 / phi of phi^3 = phi^2 + 1


def radial(shape: tuple[int, int], spokes: int, samples: int | None = None, *, golden: bool = False) -> Tensor:
    """Spokes through DC, in 2-D.

    Args:
        shape: (H, W) of the image.
        spokes: their number; at angles i pi / spokes from the second axis to the first.
        samples: of each spoke, from -n / 2 up to, not including, n / 2, with DC at samples // 2; by default two per
            cycle: twice the longer side of the image.
        golden: angles i 111.25 degrees instead (Winkelmann et al., IEEE TMI 2007): any number of successive spokes is
            spread almost evenly.

    Returns:
        (spokes * samples, 2).
    """
    angles = torch.arange(_count("spokes", spokes), dtype=torch.float64)
    angles = angles * (GOLDEN_ANGLE if golden else math.pi / spokes)
    directions = torch.stack([angles.sin(), angles.cos()], 1)
    return _spokes(directions, shape, samples)


def koosh_ball(shape: tuple[int, int, int], spokes: int, samples: int | None = None) -> Tensor:
    """Spokes through DC, in 3-D, spread over the half sphere by the golden means (Chan et al., MRM 2009).

    Args:
        shape: (X, Y, Z) of the image.
        spokes: their number.
        samples: of each spoke, as in `radial`.

    Returns:
        (spokes * samples, 3).
    """
    i = torch.arange(_count("spokes", spokes), dtype=torch.float64)
    height, turn = (torch.remainder(i * mean, 1) for mean in GOLDEN_MEANS)
    radius, angle = (1 - height**2).sqrt(), 2 * math.pi * turn
    return _spokes(torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1), shape, samples)


def spiral(
    shape: tuple[int, int], interleaves: int, turns: float, samples: int | None = None, *, density: float = 1.0
) -> Tensor:
    """Spirals from DC outwards, in 2-D, with samples at equal distances along the path.

    Equal distances: what a scanner does where the strength of its gradients limits it, not how fast they change.

    Args:
        shape: (H, W) of the image.
        interleaves: number of spirals, turned by 2 pi / interleaves.
        turns: of each spiral until it reaches n / 2.
        samples: of each spiral; by default two per cycle.
        density: 1 for an Archimedean spiral, radius proportional to the angle; above 1 the radius grows as the
            angle to this power, so that the middle is denser than the edge.

    Returns:
        (interleaves * samples, 2).
    """
    if not (0 < turns < math.inf and 0 < density < math.inf):
        raise ConfigError(f"a spiral needs turns > 0 and density > 0, got {turns:g} and {density:g}")
    start = torch.arange(_count("interleaves", interleaves), dtype=torch.float64) * (2 * math.pi / interleaves)
    t = np.linspace(0, 1, 1 + max(1000, math.ceil(1000 * turns)))
    radius, angle = t**density, 2 * np.pi * turns * t
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(radius), radius[:-1] * np.diff(angle)))])
    if samples is None:
        samples = math.ceil(2 * length[-1] * max(shape) / 2)
    equal = np.linspace(0, length[-1], _count("samples", samples), endpoint=False)
    r, a = (torch.from_numpy(np.interp(equal, length, values)) for values in (radius, angle))
    angles = start[:, None] + a
    return (r[:, None] * torch.stack([angles.sin(), angles.cos()], -1) * _half(shape)).flatten(0, 1)


def stack(planar: Tensor, partitions: int) -> Tensor:
    """One trajectory in each partition of a 3-D scan: stack of stars, stack of spirals.

    Args:
        planar: (samples, 2), along the first two axes.
        partitions: number of voxels along the third; whole cycles from -(n // 2).

    Returns:
        (partitions * samples, 3).
    """
    z = torch.arange(_count("partitions", partitions), dtype=torch.float64) - partitions // 2
    z = z.repeat_interleave(len(planar))
    return torch.cat([planar.repeat(partitions, 1), z[:, None]], 1)


def load(path: str | Path) -> Tensor:
    """Read a trajectory of one's own, in cycles per field of view, from a .npy file: (..., 2) or (..., 3).

    Raises:
        FileError: missing, not a .npy file of real numbers, or of another shape.
    """
    k = load_npy(Path(path))
    if k.ndim < 2 or k.shape[-1] not in (2, 3):
        raise FileError(f"{path} holds an array of shape {k.shape}; a trajectory is (samples, 2) or (samples, 3)")
    return torch.from_numpy(k.astype(np.float64)).flatten(0, -2)


def _spokes(directions: Tensor, shape: tuple[int, ...], samples: int | None) -> Tensor:
    """Unit vectors, (spokes, axes), times radii from -1 to 1, in units of the unit cell."""
    samples = 2 * max(shape) if samples is None else _count("samples", samples)
    radii = (torch.arange(samples, dtype=torch.float64) - samples // 2) * (2 / samples)
    return (radii[:, None] * directions[:, None, :] * _half(shape)).flatten(0, 1)


def _half(shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(shape, dtype=torch.float64) / 2


def _count(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"a trajectory needs at least 1 of its {name}, got {value}")
    return value
