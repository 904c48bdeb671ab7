"""Coarse images: larger voxels within slices, thick slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff.acquisitions.base import Acquisition
from invdiff.acquisitions.blur import AxisZ
from invdiff.errors import ConfigError
from invdiff.operators import LinearOperator, area_average, bicubic, thick_slices
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class LowRes(Acquisition):
    """Larger voxels: averages over what they cover, or bicubic interpolation.

    With `to` voxels need not be a whole number of fine ones: those that a coarse one covers in part count in part
    (partial volume). A last voxel that would reach beyond the image is the mean of what is left of it.
    """

    factor: Annotated[int, Ge(2), Doc("Voxels averaged along each in-plane axis.")] = 2
    factor_z: Annotated[int, Ge(1), Doc("The same across the slices; above 1 the volume is measured as a whole.")] = 1
    to: Annotated[float | None, Gt(0), Doc("In-plane size of the coarse voxels in mm, instead of factor.")] = None
    method: Annotated[Literal["average", "bicubic"], Doc("Averages, or antialiased bicubic interpolation.")] = "average"
    axis_z: AxisZ = 2

    @property
    def volumetric(self) -> bool:
        """Whether slices are averaged."""
        return self.factor_z > 1

    def finer(self, axes: int) -> tuple[int, ...]:
        """The factors; raises ConfigError for voxels given in mm, which are no whole number of finer ones."""
        if self.to is not None:
            raise ConfigError(f"lowres to {self.to:g} mm is no whole number of voxels; give --factor instead of --to")
        factors = [self.factor] * (axes - self.volumetric)
        if self.volumetric:
            factors.insert(self.axis_z, self.factor_z)
        return tuple(factors)

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """One matrix per axis."""
        del maps
        ratios = self._ratios(spacing)
        return area_average(space, ratios) if self.method == "average" else bicubic(space, ratios)

    def _ratios(self, spacing: tuple[float, ...]) -> tuple[float, ...]:
        """Size of a coarse voxel in fine ones, along each axis."""
        if self.to is None:
            return self.finer(len(spacing))
        ratios = [self.to / mm for mm in spacing]
        if self.volumetric:
            ratios[self.axis_z] = self.factor_z
        if min(ratios) < 1 - 1e-6:
            found = " x ".join(f"{mm:g}" for mm in spacing)
            raise ConfigError(
                f"voxels of {found} mm cannot become {self.to:g} mm: lowres makes them larger; raise --to"
            )
        return tuple(max(1.0, r) for r in ratios)


@dataclass(frozen=True, kw_only=True)
class ThickSlices(Acquisition):
    """Slices thicker than the unknown's, with a profile and a gap between them; measured as a whole."""

    factor: Annotated[int, Ge(2), Doc("Slices of the unknown from one measured slice to the next, gap included.")] = 4
    gap: Annotated[float, Ge(0), Doc("Gap between slices in mm, part of the distance that factor sets.")] = 0.0
    thickness: Annotated[
        float | None, Gt(0), Doc("Thickness in mm: slices are thickness + gap apart, and factor is not used.")
    ] = None
    profile: Annotated[
        Literal["box", "gaussian", "smooth"], Doc("Of a slice; smooth: that of a Hann-windowed sinc pulse.")
    ] = "box"
    axis_z: AxisZ = 2

    @property
    def volumetric(self) -> bool:
        """Always."""
        return True

    def finer(self, axes: int) -> tuple[int, ...]:
        """The factor across the slices; raises ConfigError where the distance is given in mm."""
        if self.thickness is not None:
            raise ConfigError("slices of a thickness in mm are no whole number of voxels apart; give --factor instead")
        return tuple(self.factor if axis == self.axis_z else 1 for axis in range(axes))

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """One banded matrix across the slices."""
        del maps
        mm = spacing[self.axis_z]
        pitch = float(self.factor) if self.thickness is None else (self.thickness + self.gap) / mm
        thickness = pitch - self.gap / mm
        return thick_slices(space, self.axis_z, pitch, thickness, self.profile)
