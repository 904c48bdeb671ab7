"""CT of slices: parallel beams and fans, few views, limited angles, low doses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.acquisitions.xray import XRay, square
from invdiff.errors import ConfigError
from invdiff.operators import FanBeam, LinearOperator, ParallelRadon
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class CT(XRay):
    """Line integrals along parallel rays or a fan, in units of stored intensity times pixels.

    What is integrated is the stored value less that of air: Hounsfield units by default. Pixels are taken as square.
    With photons, y is in stored intensity times mm, each ray times the root of its share of photons.
    """

    views: Annotated[int, Ge(1), Doc("Number of views.")] = 60
    arc: Annotated[
        float,
        Gt(0),
        Le(360),
        Doc("Arc covered by the views, in degrees; limited angle: below 180, of a fan below 180 and its own angle."),
    ] = 180.0
    geometry: Annotated[Literal["parallel", "fan"], Doc("Parallel rays, or rays from a source to a flat detector.")] = (
        "parallel"
    )
    source_to_axis: Annotated[float, Gt(0), Doc("Of a fan, in mm.")] = 595.0
    source_to_detector: Annotated[float, Gt(0), Doc("Of a fan, in mm.")] = 1085.6
    short_scan: Annotated[bool, Doc("Fan: cover just 180 degrees and the angle of the fan, whatever arc says.")] = False
    detectors: Annotated[
        int | None, Ge(1), Doc("Detector cells; none: as many as see the whole image. Fewer cut projections off.")
    ] = None
    cell: Annotated[
        float | None, Gt(0), Doc("Distance of the cells in mm; none: a pixel, of a fan as seen at the axis.")
    ] = None
    offset: Annotated[float, Doc("Shift of the detector in cells: often 0.25 on a full turn, many for a half-fan.")] = (
        0.0
    )

    @property
    def bridge(self) -> str | None:
        """Bodies in Hounsfield units."""
        return "ct-body-bridge"

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Joseph's projector at equally spaced angles from 0, or at the map `angles` in radians, which imports give.

        Whitened where counts were measured.
        """
        if self.short_scan and self.geometry == "parallel":
            raise ConfigError("short_scan is for fans; parallel rays need an arc of 180, or give geometry = fan")
        angles = maps.get("angles")
        make = self._fan if self.geometry == "fan" else self._parallel
        projector = make(space, spacing, angles)
        if self.photons is None:
            return projector
        return self.whitened(square(space, spacing, "photons") * projector, maps)

    def _parallel(self, space: Space, spacing: tuple[float, ...], angles: Tensor | None) -> LinearOperator:
        pitch = 1.0 if self.cell is None else self.cell / square(space, spacing, "a cell in mm")
        angles = self._angles(self.arc) if angles is None else angles
        return ParallelRadon(space, angles, self.detectors, pitch=pitch, offset=self.offset, window=self.filter)

    def _fan(self, space: Space, spacing: tuple[float, ...], angles: Tensor | None) -> LinearOperator:
        mm = square(space, spacing, "a fan")
        R, L = self.source_to_axis / mm, self.source_to_detector / mm
        pitch = None if self.cell is None else self.cell / mm

        def fan(angles: Tensor) -> FanBeam:
            return FanBeam(space, angles, R, L, self.detectors, pitch=pitch, offset=self.offset, window=self.filter)

        if angles is not None or not self.short_scan:
            return fan(self._angles(self.arc) if angles is None else angles)
        widest = max(abs(float(g)) for g in fan(torch.zeros(1)).gamma[[0, -1]])
        return fan(self._angles(min(180 + 2 * math.degrees(widest), 360.0)))

    def _angles(self, arc: float) -> Tensor:
        return torch.arange(self.views, dtype=torch.float64) * math.radians(arc) / self.views
