"""A volume: numbers, and the place in the world that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import GeometryError, ShapeError
from invdiff.volumes import geometry
from invdiff.volumes.geometry import Affine


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D volume or a series of them.

    Args:
        data: (C, X, Y, Z) float32, axes in stored order; C frames of a 4-D file, 1 for a 3-D one.
        affine: voxel index -> mm, RAS+, (4, 4) float64.
        header: the file's header as it lies on disk, opaque; None for a volume that comes from no file.
        series: write a 4-D file even when C == 1.

    Raises:
        ShapeError: data of another type or number of axes.
        GeometryError: no voxels, or an affine that is singular or not finite.
    """

    data: Tensor
    affine: Affine
    header: bytes | None = None
    series: bool = False

    def __post_init__(self) -> None:
        """Refuse what has no voxels or no place; copy the affine."""
        if self.data.ndim != 4 or self.data.dtype != torch.float32:
            found = f"{tuple(self.data.shape)} {str(self.data.dtype).removeprefix('torch.')}"
            raise ShapeError(f"a volume holds (C, X, Y, Z) float32, not {found}; reshape, then .float()")
        if self.data.numel() == 0:
            raise GeometryError(f"the volume is empty: (C, X, Y, Z) = {tuple(self.data.shape)}")
        object.__setattr__(self, "affine", geometry.check_affine(self.affine))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each stored axis in mm."""
        return geometry.spacing(self.affine)

    @property
    def orientation(self) -> str:
        """Where each stored axis points to, e.g. "RAS" or "LPI"."""
        return geometry.orientation(self.affine)

    def like(self, data: Tensor, *, series: bool | None = None) -> Volume:
        """The same place in the world, other numbers.

        Args:
            data: (C, X, Y, Z) float32; C may differ from this volume's.
            series: whether one frame is written as a 4-D file; None does as this volume does.

        Raises:
            ShapeError: the grid (X, Y, Z) differs from this volume's.
        """
        if data.shape[1:] != self.data.shape[1:]:
            grids = f"{tuple(self.data.shape[1:])}, the new data {tuple(data.shape[1:])}"
            raise ShapeError(f"the volume has grid {grids}; use crop() or canonical() to change the grid")
        return replace(self, data=data, series=self.series if series is None else series)

    def canonical(self) -> Volume:
        """Axes flipped and permuted until closest to RAS+; each voxel keeps its value and its place in the world."""
        data, affine = geometry.canonical(self.data, self.affine)
        return replace(self, data=data, affine=affine)

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Volume:
        """The block of `shape` (3,) voxels from voxel `start` (3,); each keeps its place in the world.

        Raises:
            ShapeError: the block is empty or reaches outside.
        """
        data, affine = geometry.crop(self.data, self.affine, start, shape)
        return replace(self, data=data, affine=affine)


def describe(volume: Volume) -> dict[str, object]:
    """What a JSON sidecar says of a volume: shape (X, Y, Z), frames, spacing in mm, orientation, affine in mm."""
    return {
        "shape": list(volume.data.shape[1:]),
        "frames": len(volume.data),
        "spacing": list(volume.spacing),
        "orientation": volume.orientation,
        "affine": np.asarray(volume.affine).tolist(),
    }
