"""Where the slices of a scan lie: from a scanner's directions and positions (LPS) to an affine (RAS)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import GeometryError
from invdiff.volumes.geometry import Affine

Floats = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN = 0.02  # slice distances may differ by this part of their mean: positions are often rounded in files


@dataclass(frozen=True, eq=False)
class Place:
    """Directions and positions in mm, in the patient's LPS system (x to the left, y to the back, z to the head).

    Attributes:
        rows: unit vector along the first stored axis, (3,).
        columns: along the second.
        normal: across the slices.
        centres: of the slices, or of the one slab, (n, 3): where index (size // 2) of the first two axes lies.
    """

    rows: Floats
    columns: Floats
    normal: Floats
    centres: Floats

    @property
    def order(self) -> NDArray[np.intp]:
        """Slices sorted along the normal."""
        return np.argsort(self.centres @ self.normal, kind="stable")

    def affine(self, shape: tuple[int, int, int], voxel: tuple[float, float, float]) -> Affine:
        """Voxel index to mm (RAS) of slices in `order`, or of a slab of shape[2] partitions of voxel[2] mm.

        Raises:
            GeometryError: slices that coincide or are unequally spaced.
        """
        lps = np.eye(4)
        lps[:3, 0], lps[:3, 1] = self.rows * voxel[0], self.columns * voxel[1]
        lps[:3, 2] = self.normal * voxel[2] if len(self.centres) == 1 else step(self.centres[self.order])
        middle = [shape[0] // 2, shape[1] // 2, shape[2] // 2 if len(self.centres) == 1 else 0]
        lps[:3, 3] = self.centres[self.order[0]] - lps[:3, :3] @ middle
        return LPS_TO_RAS @ lps


def step(centres: Floats) -> Floats:
    """From one slice to the next, (3,) mm, of sorted positions (n, 3), n > 1.

    Raises:
        GeometryError: slices that coincide or are unequally spaced; the message has the distances.
    """
    mean = (centres[-1] - centres[0]) / (len(centres) - 1)
    steps = np.diff(centres, axis=0)
    distances = np.linalg.norm(steps, axis=1)
    if distances.min() < 1e-3:
        k = int(distances.argmin())
        raise GeometryError(
            f"slices {k} and {k + 1} lie at the same place, {_mm(centres[k])}: echoes or times; separate them first"
        )
    off = np.linalg.norm(steps - mean, axis=1)
    if off.max() > UNEVEN * np.linalg.norm(mean):
        k, usual = int(off.argmax()), float(np.median(distances))
        missing = round(distances[k] / usual) - 1
        guess = f"{missing} missing?" if missing > 0 else "another orientation?"
        raise GeometryError(
            f"{len(centres)} slices are not equally spaced: {distances[k]:.4g} mm from slice {k} to {k + 1} at "
            f"{_mm(centres[k])}, {usual:.4g} mm elsewhere ({guess}); complete or separate them"
        )
    return mean


def unplaced(voxel: tuple[float, float, float]) -> Affine:
    """Voxel sizes alone, the first voxel at the origin: for files that do not tell where they were measured."""
    return np.diag([*voxel, 1.0])


def _mm(position: Floats) -> str:
    return "(" + ", ".join(f"{x:.4g}" for x in position) + ") mm"
