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
    """Line integrals of the stored intensities along parallel rays, in units of intensity times pixels.

    Intensities are integrated as they are: shift Hounsfield units to non-negative numbers first. Pixels are taken as
    square.
    """

    noise_reference: ClassVar[str] = "mean of the clean |y|"

    views: Annotated[int, Ge(1), Doc("Number of views.")] = 60
    arc: Annotated[float, Gt(0), Le(360), Doc("Arc covered by the views, in degrees; below 180: limited angle.")] = (
        180.0
    )

    def operator(self, space: Space, spacing: tuple[float, float], maps: dict[str, Tensor]) -> LinearOperator:
        """Joseph's projector at equally spaced angles from 0."""
        del spacing, maps
        angles = torch.arange(self.views, dtype=torch.float64) * math.radians(self.arc) / self.views
        return ParallelRadon(space, angles)

    def noise_unit(self, image: Tensor, clean: Tensor) -> float:
        """Mean of |y|."""
        del image
        return float(clean.abs().mean())
