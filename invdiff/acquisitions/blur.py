"""Blurred images: by a Gaussian, by motion, by a measured kernel, more at the borders than in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff import kernels
from invdiff.acquisitions.base import Acquisition
from invdiff.errors import ConfigError
from invdiff.operators import LinearOperator, VaryingConvolution, convolution, gaussian_blur
from invdiff.operators.separable import FWHM
from invdiff.rng import generator
from invdiff.space import Space

Edge = Annotated[
    Literal["reflect", "circular", "zero"], Doc("How the image goes on beyond its borders: mirrored, repeated, zero.")
]
AxisZ = Annotated[int, Ge(0), Le(2), Doc("Stored axis across the slices, of volumes that are measured as a whole.")]


@dataclass(frozen=True, kw_only=True)
class Blur(Acquisition):
    """Gaussian blur, within slices or through them too."""

    fwhm: Annotated[float, Gt(0), Doc("Full width at half maximum, in mm.")] = 4.0
    fwhm_y: Annotated[float | None, Gt(0), Doc("The same along the second axis of a slice; none: fwhm.")] = None
    fwhm_z: Annotated[float, Ge(0), Doc("The same across the slices; above 0 the volume is measured as a whole.")] = 0.0
    axis_z: AxisZ = 2

    @property
    def volumetric(self) -> bool:
        """Whether slices blur into each other."""
        return self.fwhm_z > 0

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Separable Gaussian; reflecting borders."""
        del maps
        widths = [self.fwhm, self.fwhm if self.fwhm_y is None else self.fwhm_y]
        if self.volumetric:
            widths.insert(self.axis_z, self.fwhm_z)
        return gaussian_blur(space, [w / FWHM / mm for w, mm in zip(widths, spacing, strict=True)])


@dataclass(frozen=True, kw_only=True)
class MotionBlur(Acquisition):
    """Motion within slices while they were measured, the same in each."""

    length: Annotated[float, Gt(0), Doc("Length of the path, in mm.")] = 10.0
    path: Annotated[Literal["straight", "random"], Doc("A straight line, or a shaking hand drawn from the seed.")] = (
        "straight"
    )
    angle: Annotated[
        float,
        Ge(-360),
        Le(360),
        Doc("Direction of a straight path in degrees, from the slice's first axis to its second."),
    ] = 45.0
    edge: Edge = "reflect"

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """`kernel`: float64, (h, w), sum 1."""
        del space
        if self.path == "straight":
            path = kernels.straight_path(self.length, self.angle)
        else:
            path = kernels.random_path(self.length, 2, generator(seed, "motion"))
        return {"kernel": kernels.rasterise(path, spacing)}

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Convolution with the time spent in each voxel."""
        del spacing
        return convolution(space, maps["kernel"], self.edge)


@dataclass(frozen=True, kw_only=True)
class MeasuredBlur(Acquisition):
    """Blur by a kernel from a file, such as a measured point spread function."""

    kernel: Annotated[
        str | None, Doc("File of the kernel: .npy in voxels of the image, or NIfTI with a voxel size of its own.")
    ] = None
    dimensions: Annotated[
        Literal[2, 3], Doc("Axes of the kernel: within slices, or of the volume as a whole, in stored order.")
    ] = 2
    edge: Edge = "reflect"

    @property
    def volumetric(self) -> bool:
        """Whether the kernel has a third axis."""
        return self.dimensions == 3

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """`kernel`: float64, as large as the file says, sum 1."""
        del space, seed
        if self.kernel is None:
            raise ConfigError("measuredblur needs the file of a kernel; give --kernel psf.nii.gz or psf.npy")
        return {"kernel": kernels.read_kernel(Path(self.kernel), spacing)}

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Convolution with it."""
        del spacing
        return convolution(space, maps["kernel"], self.edge)


@dataclass(frozen=True, kw_only=True)
class VaryingBlur(Acquisition):
    """Gaussian blur within slices that widens from the middle of the image to its corners."""

    fwhm: Annotated[float, Gt(0), Doc("Full width at half maximum in the middle, in mm.")] = 3.0
    fwhm_corner: Annotated[float, Gt(0), Doc("The same in the corners.")] = 8.0
    grid: Annotated[int, Ge(1), Doc("Regions along each axis with a kernel of their own.")] = 3
    edge: Edge = "reflect"

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Kernels on a grid, mixed in between."""
        del maps
        sizes = space.shape[1:]
        grid = (self.grid,) * len(sizes)
        widths = (self.fwhm, self.fwhm_corner)
        return VaryingConvolution(space, kernels.widening(widths, grid, spacing, sizes), self.edge)
