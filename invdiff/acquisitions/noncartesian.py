"""MRI off the grid: radial, spiral, any trajectory."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff import coilmaps, trajectories
from invdiff.acquisitions.complex import ComplexImage
from invdiff.errors import ConfigError
from invdiff.noise.base import NoiseModel
from invdiff.operators import NUFFT, Coils, LinearOperator
from invdiff.rng import Rng
from invdiff.space import Space

LOW_PASS = 12.0  # coil maps vary over a twelfth of the field of view and more


@dataclass(frozen=True, kw_only=True)
class NonCartesian(ComplexImage):
    """What all trajectories share; a subclass says where k-space is sampled."""

    coils: Annotated[int, Ge(1), Doc("Receive coils; simulation places them around the scan.")] = 1
    coil_maps: Annotated[
        Literal["true", "adaptive"],
        Doc("Coil maps that the reconstruction uses: those of the simulation, or maps found in the middle of k-space."),
    ] = "true"

    @abstractmethod
    def trajectory(self, sizes: tuple[int, ...]) -> Tensor:
        """(samples, axes) in cycles per field of view, given the voxels along each axis of a slice or volume."""

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """`trajectory`: float64, (samples, axes); with several coils `coils`: complex, (coils, *spatial)."""
        sizes = space.shape[1:]
        maps = {"trajectory": self.trajectory(sizes)}
        if self.coils > 1:
            maps["coils"] = coilmaps.simulate(self.coils, sizes, spacing, seed)
        return maps

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """NUFFT @ Coils @ ComplexFromChannels; no Coils for a single one."""
        del spacing
        right = self.entry(space)
        if self.coils > 1:
            right = Coils(right.range, maps["coils"]) @ right
        return NUFFT(right.range, maps["trajectory"]) @ right

    def measure(
        self,
        image: Tensor,
        clean: Tensor,
        maps: dict[str, Tensor],
        noise: type[NoiseModel],
        fraction: float,
        rng: Rng,
    ) -> tuple[Tensor, NoiseModel, dict[str, Tensor]]:
        """Noise; with `coil_maps = adaptive`, maps of each slice from images of low resolution."""
        y, model, found = super().measure(image, clean, maps, noise, fraction, rng)
        if self.coil_maps == "adaptive" and self.coils > 1:
            sizes = tuple(image.shape[2:])
            found = found | {"coils": estimated_maps(y, maps["trajectory"], sizes)}
        return y, model, found


@dataclass(frozen=True, kw_only=True)
class Radial(NonCartesian):
    """Spokes through the middle of k-space."""

    acceleration: Annotated[
        float,
        Gt(0),
        Doc(
            "Spokes of a full scan, pi/2 times the voxels along an axis (3d: their square), divided by those measured."
        ),
    ] = 4.0
    spokes: Annotated[int | None, Ge(1), Doc("Number of spokes, of each partition; none: from acceleration.")] = None
    samples: Annotated[int | None, Ge(2), Doc("Samples of a spoke; none: twice the voxels along the longest axis.")] = (
        None
    )
    golden: Annotated[bool, Doc("Spokes 111.25 degrees apart instead of evenly spread.")] = False
    dimension: Annotated[
        Literal["2d", "3d", "stack"],
        Doc(
            "2d: slices. Whole volumes: 3d, spokes over the sphere by golden means; stack, stars along the third axis."
        ),
    ] = "2d"

    @property
    def volumetric(self) -> bool:
        """Whether a volume is measured as a whole."""
        return self.dimension != "2d"

    def trajectory(self, sizes: tuple[int, ...]) -> Tensor:
        """Spokes; see `invdiff.trajectories`."""
        if self.dimension == "3d":
            longest = sorted(sizes)[-2:]
            return trajectories.koosh_ball((sizes[0], sizes[1], sizes[2]), self._count(longest), self.samples)
        plane = (sizes[0], sizes[1])
        star = trajectories.radial(plane, self._count([max(plane)]), self.samples, golden=self.golden)
        return star if self.dimension == "2d" else trajectories.stack(star, sizes[2])

    def _count(self, sides: list[int]) -> int:
        """Nyquist's number: neighbours one cycle apart where they end."""
        return self.spokes or max(1, math.ceil(math.pi / 2 * math.prod(sides) / self.acceleration))


@dataclass(frozen=True, kw_only=True)
class Spiral(NonCartesian):
    """Spirals from the middle of k-space outwards."""

    acceleration: Annotated[
        float, Gt(0), Doc("Distance of neighbouring turns, in cycles per field of view: 1 for a full scan.")
    ] = 2.0
    interleaves: Annotated[int, Ge(1), Doc("Number of spirals, of each partition.")] = 16
    turns: Annotated[float | None, Gt(0), Doc("Turns of each spiral; none: from acceleration.")] = None
    samples: Annotated[int | None, Ge(2), Doc("Samples of a spiral; none: two per cycle along it.")] = None
    density: Annotated[
        float, Gt(0), Doc("Radius as a power of the angle: 1 for evenly spaced turns, above it denser in the middle.")
    ] = 1.0
    dimension: Annotated[
        Literal["2d", "stack"], Doc("2d: slices; stack: whole volumes, spirals in each partition along the third axis.")
    ] = "2d"

    @property
    def volumetric(self) -> bool:
        """Whether a volume is measured as a whole."""
        return self.dimension != "2d"

    def trajectory(self, sizes: tuple[int, ...]) -> Tensor:
        """Spirals; see `invdiff.trajectories`."""
        plane = (sizes[0], sizes[1])
        turns = self.turns or max(plane) / 2 / (self.interleaves * self.acceleration)
        k = trajectories.spiral(plane, self.interleaves, turns, self.samples, density=self.density)
        return k if self.dimension == "2d" else trajectories.stack(k, sizes[2])


@dataclass(frozen=True, kw_only=True)
class Trajectory(NonCartesian):
    """A trajectory of one's own, from a file."""

    file: Annotated[
        str | None,
        Doc("File, .npy, (samples, 2) or (samples, 3) in cycles per field of view; kept in the measurement."),
    ] = None
    dimension: Annotated[Literal["2d", "3d"], Doc("2d: slices; 3d: whole volumes.")] = "2d"

    @property
    def volumetric(self) -> bool:
        """Whether a volume is measured as a whole."""
        return self.dimension == "3d"

    def trajectory(self, sizes: tuple[int, ...]) -> Tensor:
        """What the file holds."""
        if self.file is None:
            raise ConfigError("no trajectory given: name a .npy file of (samples, 2) or (samples, 3), --file k.npy")
        k = trajectories.load(self.file)
        if k.shape[1] != len(sizes):
            want = "3d" if k.shape[1] == 3 else "2d"
            raise ConfigError(
                f"{self.file} has {k.shape[1]} axes, dimension is {self.dimension}; give --dimension {want}"
            )
        return k


def estimated_maps(y: Tensor, trajectory: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Coil maps (P, coils, *sizes) from the middle of k-space, as far as it is full, faded out by a Hann window.

    Args:
        y: (P, coils, samples).
        trajectory: (samples, axes), in cycles per field of view.
        sizes: voxels along each axis.

    Raises:
        ConfigError: where cells of one cycle within 4 cycles of DC hold no sample.
    """
    radius = min(LOW_PASS, full_radius(trajectory))
    if radius < 4:
        raise ConfigError(
            "coil maps need a full middle of k-space, 4 cycles around DC at least; this one is full up to "
            f"{radius:.1f}; measure more there (spirals: density above 1), or give coil_maps = true"
        )
    distance = trajectory.norm(dim=1)
    window = torch.where(distance < radius, (1 + (math.pi * distance / radius).cos()) / 2, 0.0)
    A = NUFFT(Space((y.shape[1], *sizes), y.dtype), trajectory)
    return coilmaps.adaptive(A.direct(window.to(y.real.dtype) * y))


def full_radius(trajectory: Tensor) -> float:
    """Distance from DC of the nearest empty cell; cells are cubes of one cycle around whole numbers of cycles."""
    axes = trajectory.shape[1]
    reach = math.ceil(LOW_PASS) + 1
    cells = trajectory.round().long()
    cells = cells[(cells.abs() <= reach).all(1)] + reach
    empty = torch.ones((2 * reach + 1,) * axes, dtype=torch.bool)
    empty[cells.unbind(1)] = False
    return float((empty.nonzero() - reach).double().norm(dim=1).min()) if bool(empty.any()) else float(reach)
