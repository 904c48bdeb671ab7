"""Cartesian MRI with missing phase-encoding lines, or points of two phase-encoding axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff import coilmaps
from invdiff.acquisitions import sampling
from invdiff.acquisitions.complex import ComplexImage
from invdiff.errors import ConfigError, ShapeError
from invdiff.kernels import read_array
from invdiff.noise.base import NoiseModel
from invdiff.operators import (
    FFT,
    Coils,
    Diagonal,
    LinearOperator,
    Mask,
    Sense,
    UndersampledComplexFourier,
    UndersampledFourier,
)
from invdiff.rng import Rng
from invdiff.space import Space

LINES = {
    "random": sampling.random_lines,
    "equispaced": sampling.equispaced_lines,
    "gaussian": sampling.gaussian_lines,
}
POINTS = {
    "random": sampling.random_points,
    "gaussian": sampling.gaussian_points,
    "poisson": sampling.poisson_points,
}


@dataclass(frozen=True, kw_only=True)
class MRI(ComplexImage):
    """Cartesian k-space of slices or volumes, of one coil or several.

    Phase encoding runs along the first axis; in 3-D along the third too. The unknown is complex, as it is in a scanner.
    Of a real one each line off the centre would also tell of its mirror line, since its k-space is
    conjugate-symmetric: `image = real` makes undersampling milder than it is in truth.
    """

    of_the_unknown: ClassVar[frozenset[str]] = frozenset({"phase", "phase_file", "field_map", "echo_time", "file_axis"})

    acceleration: Annotated[float, Ge(1), Doc("Lines (3d: points) of a full scan divided by those measured.")] = 4.0
    center_fraction: Annotated[
        float, Gt(0), Le(1), Doc("Fraction of all lines, around DC, that are always measured; 3d: along each axis.")
    ] = 0.08
    pattern: Annotated[
        Literal["random", "equispaced", "gaussian", "poisson", "given"],
        Doc("Where the other lines lie. equispaced: 2d only; poisson: 3d only; given: as imported data say."),
    ] = "random"
    partial_fourier: Annotated[
        float, Ge(0.5), Le(1), Doc("Fraction of the lines that may be measured; those at the most negative ky are not.")
    ] = 1.0
    dimension: Annotated[Literal["2d", "3d"], Doc("2d: slices; 3d: whole volumes, phase-encoded along two axes.")] = (
        "2d"
    )
    coils: Annotated[int, Ge(1), Doc("Receive coils; simulation places them around the scan.")] = 1
    coil_maps: Annotated[
        Literal["true", "espirit", "adaptive"],
        Doc("Maps that the reconstruction uses: those of the simulation, or maps found in the middle of k-space."),
    ] = "true"
    phase_file: Annotated[
        str | None,
        Doc("NIfTI or .npy of the phase in rad that simulation gives to the image; none: random."),
    ] = None
    field_map: Annotated[
        str | None, Doc("NIfTI or .npy of the off-resonance in Hz: it turns the image's phase until the echo.")
    ] = None
    echo_time: Annotated[float, Ge(0), Doc("Echo time in ms, for field_map.")] = 20.0
    file_axis: Annotated[int, Ge(0), Le(2), Doc("Axis across the slices of phase_file and field_map.")] = 2

    @property
    def volumetric(self) -> bool:
        """Whether a volume is measured as a whole."""
        return self.dimension == "3d"

    @property
    def bridge(self) -> str | None:
        """Slices of complex heads."""
        return "brain-mr-bridge" if self.image == "complex" and not self.volumetric else None

    def to_unknown(self, stored: Tensor, seed: int) -> Tensor:
        """The image times exp(i phase), as two channels."""
        if self.phase_file is None or self.image == "real":
            return super().to_unknown(stored, seed)
        angle = self._read(self.phase_file, stored.shape[2:]).to(stored)
        frames = len(stored) // len(angle)
        if frames * len(angle) != len(stored):
            raise ShapeError(f"{self.phase_file} has {len(angle)} images, the scan {len(stored)}; give one for each")
        angle = angle.repeat(frames, *[1] * (angle.ndim - 1))[:, None]
        return torch.cat([stored * angle.cos(), stored * angle.sin()], dim=1)

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """What was drawn or read.

        `lines`: bool, (H,), or in 3-D `mask`: bool, (X, 1, Z), DC at index 0, one for all; `coils`: complex,
        (coils, *spatial); `off_resonance`: (S, *spatial) in rad at the echo.
        """
        sizes = space.shape[1:]
        if self.pattern == "given":
            raise ConfigError("pattern = given is for imported data, whose file says it; simulation needs another one")
        known = POINTS if self.volumetric else LINES
        if self.pattern not in known:
            choices = ", ".join(known)
            raise ConfigError(f"pattern = {self.pattern} is not for {self.dimension}, where it is one of {choices}")
        how: Any = (self.acceleration, self.center_fraction, seed)
        if self.volumetric:
            points = POINTS[self.pattern]((sizes[0], sizes[2]), *how, partial_fourier=self.partial_fourier)
            maps = {"mask": points[:, None, :]}
        else:
            maps = {"lines": LINES[self.pattern](sizes[0], *how, partial_fourier=self.partial_fourier)}
        if self.coils > 1:
            maps["coils"] = coilmaps.simulate(self.coils, sizes, spacing, seed)
        if self.field_map is not None:
            hertz = self._read(self.field_map, sizes)
            maps["off_resonance"] = (2 * math.pi * 1e-3 * self.echo_time * hertz).float()
        return maps

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Sense @ Diagonal @ ComplexFromChannels, as far as there is off-resonance; Mask @ FFT for a single coil."""
        del spacing
        mask, dims = maps["lines"][:, None] if "lines" in maps else maps["mask"], len(space.shape) - 1
        right = self.entry(space)
        if self.coils == 1 and "off_resonance" not in maps:
            kind = UndersampledComplexFourier if self.image == "complex" else UndersampledFourier
            return kind(self.domain(space), mask, dims)
        if "off_resonance" in maps:
            turn = torch.polar(torch.ones_like(maps["off_resonance"]), maps["off_resonance"])[:, None]
            right = Diagonal(right.range, turn[0] if len(turn) == 1 else turn) @ right
        if self.coils > 1:
            return Sense(Coils(right.range, maps["coils"]), mask) @ right
        return Mask(right.range, mask) @ FFT(right.range, dims) @ right

    def measure(
        self,
        image: Tensor,
        clean: Tensor,
        maps: dict[str, Tensor],
        noise: type[NoiseModel],
        fraction: float,
        rng: Rng,
    ) -> tuple[Tensor, NoiseModel, dict[str, Tensor]]:
        """Noise; with `coil_maps` other than true, the maps of each slice from the noisy middle of k-space."""
        y, model, found = super().measure(image, clean, maps, noise, fraction, rng)
        if self.coils > 1 and self.coil_maps != "true":
            sizes = image.shape[2:]
            mask = (maps["lines"][:, None] if "lines" in maps else maps["mask"]).expand(sizes)
            found = found | {"coils": coilmaps.estimate(y, mask, self.coil_maps)}
        return y, model, found

    def _read(self, path: str, sizes: tuple[int, ...] | torch.Size) -> Tensor:
        """A file's images, (S, H, W), or (1, X, Y, Z) for volumes, float64."""
        values = torch.from_numpy(read_array(Path(path), (2, 3))[0]).double()
        if not self.volumetric:
            values = values.movedim(self.file_axis, 0) if values.ndim == 3 else values[None]
        else:
            values = values[None]
        if tuple(values.shape[1:]) != tuple(sizes):
            found, want = ("x".join(map(str, s)) for s in (values.shape[1:], sizes))
            raise ShapeError(f"{path} holds images of {found}, those of the scan are {want}; check --file-axis")
        if not bool(torch.isfinite(values).all()):
            raise ConfigError(f"{path} holds NaN or infinite values; set them to 0 where nothing is known")
        return values
