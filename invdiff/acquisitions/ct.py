"""Parallel-beam CT with few views."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.acquisitions.base import Acquisition
from invdiff.operators import LinearOperator, ParallelRadon
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class CT(Acquisition):
    """Line integrals along parallel rays, in units of stored intensity times pixels.

    What is integrated is the stored value less that of air: Hounsfield units by default. Pixels are taken as square.
    """

    noise_reference: ClassVar[str] = "mean of the clean |y|"

    views: Annotated[int, Ge(1), Doc("Number of views.")] = 60
    arc: Annotated[float, Gt(0), Le(360), Doc("Arc covered by the views, in degrees; below 180: limited angle.")] = (
        180.0
    )
    air: Annotated[float, Doc("Stored value of air: -1000 in Hounsfield units, 0 for attenuation.")] = -1000.0

    @property
    def prior(self) -> str:
        """Bodies in Hounsfield units."""
        return "ct-body"

    @property
    def zero(self) -> float:
        """Air."""
        return self.air

    def to_unknown(self, stored: Tensor, seed: int) -> Tensor:
        """Attenuation above that of air."""
        del seed
        return stored - self.air

    def to_stored(self, unknown: Tensor) -> Tensor:
        """Back to stored values."""
        return unknown + self.air

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Joseph's projector at equally spaced angles from 0."""
        del spacing, maps
        angles = torch.arange(self.views, dtype=torch.float64) * math.radians(self.arc) / self.views
        return ParallelRadon(space, angles)

    def noise_unit(self, image: Tensor, clean: Tensor) -> float:
        """Mean of |y|."""
        del image
        return float(clean.abs().mean())
