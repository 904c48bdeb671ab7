"""CT of volumes as a whole: cones from a circle or a helix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.acquisitions.xray import XRay
from invdiff.operators import LinearOperator
from invdiff.operators.fanbeam import check_distances, corner, shadow
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class _Cone(XRay):
    """What a circle and a helix have in common; the axis of rotation is the third stored axis."""

    source_to_axis: Annotated[float, Gt(0), Doc("In mm.")] = 595.0
    source_to_detector: Annotated[float, Gt(0), Doc("In mm.")] = 1085.6
    columns: Annotated[int | None, Ge(1), Doc("Cells in a row; none: as many as see the whole volume.")] = None
    cell: Annotated[float | None, Gt(0), Doc("Side of a cell in mm; none: a voxel as seen at the axis.")] = None
    offset: Annotated[float, Doc("Shift of the detector along its rows, in cells.")] = 0.0

    @property
    def volumetric(self) -> bool:
        """Rays pass through many slices."""
        return True

    def _cells(self, space: Space, spacing: tuple[float, ...], rows: int | None, feed: float) -> dict[str, object]:
        """Detector, cell and the like, in the words of the operators.

        By default all within half the `feed` above and below the source is seen, of a circle the whole volume.
        """
        magnification = self.source_to_detector / self.source_to_axis
        cell = spacing[0] * magnification if self.cell is None else self.cell
        r = math.hypot(*((n // 2) * mm for n, mm in zip(space.shape[1:3], spacing[:2], strict=True)))
        check_distances(self.source_to_axis, self.source_to_detector, corner(space, spacing))
        wide = shadow(r, self.source_to_axis) * magnification / cell
        half = feed / 2 if feed else (space.shape[3] // 2) * spacing[2]
        # What lies nearest to the source is seen highest.
        high = half * self.source_to_detector / (self.source_to_axis - r) / cell
        return {
            "detector": (
                2 * math.ceil(high) + 1 if rows is None else rows,
                2 * math.ceil(wide + abs(self.offset)) + 1 if self.columns is None else self.columns,
            ),
            "voxel": spacing,
            "cell": (cell, cell),
            "offset": self.offset,
            "window": self.filter,
        }


@dataclass(frozen=True, kw_only=True)
class ConeCT(_Cone):
    """Cone-beam CT on a circle in the plane of the middle slice, in units of stored intensity times mm.

    Of a large cone the slices far from the middle are not fully told by a circle.
    """

    views: Annotated[int, Ge(1), Doc("Number of views.")] = 120
    arc: Annotated[
        float, Gt(0), Le(360), Doc("Arc covered by the views, in degrees; limited: below 180 and the angle of the fan.")
    ] = 360.0
    rows: Annotated[int | None, Ge(1), Doc("Detector rows; none: as many as see the whole volume.")] = None

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Siddon's projector at equally spaced angles from 0; whitened where counts were measured."""
        from invdiff.operators import ConeBeam

        angles = np.arange(self.views) * math.radians(self.arc) / self.views
        cells = self._cells(space, spacing, self.rows, 0.0)
        R, L = self.source_to_axis, self.source_to_detector
        return self.whitened(ConeBeam(space, angles, R, L, **cells), maps)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class HelicalCT(_Cone):
    """CT of a volume that is moved through the turning scanner, in units of stored intensity times mm."""

    views_per_turn: Annotated[int, Ge(1), Doc("Views in one turn.")] = 120
    feed: Annotated[
        float | None, Gt(0), Doc("Way in one turn in mm; none: a sixteenth of the source's distance from the axis.")
    ] = None
    turns: Annotated[float | None, Gt(0), Doc("Number of turns; none: as many as see each slice for a whole one.")] = (
        None
    )
    rows: Annotated[int | None, Ge(1), Doc("Detector rows; none: enough for the feed.")] = None

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Siddon's projector along a helix about the middle of the volume; whitened where counts were measured."""
        from invdiff.operators import Helical

        feed = self.source_to_axis / 16 if self.feed is None else self.feed
        turns = space.shape[3] * spacing[2] / feed + 1 if self.turns is None else self.turns
        cells = self._cells(space, spacing, self.rows, feed)
        views = max(1, round(self.views_per_turn * turns))
        R, L = self.source_to_axis, self.source_to_detector
        return self.whitened(Helical(space, views, turns, R, L, feed=feed, **cells), maps)  # type: ignore[arg-type]
