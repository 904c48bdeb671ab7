"""A measurement that is the image itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.acquisitions.base import Acquisition
from invdiff.operators import Identity, LinearOperator
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class Denoise(Acquisition):
    """Nothing but noise."""

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """The identity."""
        del spacing, maps
        return Identity(space)
