"""Measurements that are images themselves: blurred, coarse, incomplete or noisy ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_doc import Doc
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from invdiff.acquisitions.base import Acquisition, uniform
from invdiff.operators import Identity, LinearOperator, Mask, average_pool, gaussian_blur
from invdiff.space import Space

FWHM = 2.354820045  # full width at half maximum of a Gaussian, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Blur(Acquisition):
    """Gaussian blur within slices."""

    fwhm: Annotated[float, Gt(0), Doc("Full width at half maximum, in mm.")] = 4.0

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Separable Gaussian; reflecting borders."""
        del maps
        return gaussian_blur(space, [self.fwhm / FWHM / mm for mm in spacing])


@dataclass(frozen=True, kw_only=True)
class LowRes(Acquisition):
    """Larger voxels within slices: block averages."""

    factor: Annotated[int, Ge(2), Doc("Voxels averaged along each in-plane axis.")] = 2

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Average pooling; a last block may be shorter."""
        del spacing, maps
        return average_pool(space, (self.factor, self.factor))


@dataclass(frozen=True, kw_only=True)
class Inpaint(Acquisition):
    """Missing voxels, the same ones in every slice."""

    missing: Annotated[float, Gt(0), Lt(1), Doc("Fraction of the voxels that is missing, at random.")] = 0.5

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """`mask`: bool, (H, W), True where measured."""
        del spacing
        return {"mask": uniform(seed, "mask", space.shape[1:]) >= self.missing}

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """The voxels that are left."""
        del spacing
        return Mask(space, maps["mask"])


@dataclass(frozen=True, kw_only=True)
class Denoise(Acquisition):
    """Nothing but noise."""

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """The identity."""
        del spacing, maps
        return Identity(space)
