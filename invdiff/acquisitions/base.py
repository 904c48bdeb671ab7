"""Settings of a scanner: small, frozen, writable as YAML. They make operators; tensors live there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invdiff.operators.base import LinearOperator
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class Acquisition(ABC):
    """How slices are measured.

    Class attributes:
        noise_reference: what a noise level of 1 means: the 99.9th percentile of the clean image, or the mean of the
            clean |y|.
    """

    noise_reference: ClassVar[str] = "p99.9 of the clean image"

    def maps(self, space: Space, spacing: tuple[float, float], seed: int) -> dict[str, Tensor]:
        """Tensors that are drawn or given once and stored with the measurement: masks, coil maps."""
        del space, spacing, seed
        return {}

    @abstractmethod
    def operator(self, space: Space, spacing: tuple[float, float], maps: dict[str, Tensor]) -> LinearOperator:
        """The physics.

        Args:
            space: one slice, (1, H, W).
            spacing: voxel size along H and W in mm.
            maps: what `maps` gave, possibly long ago, from a file.
        """

    def noise_unit(self, image: Tensor, clean: Tensor) -> float:
        """The value that `--noise 1` stands for, given clean images and clean measurements."""
        from invdiff.priors.scaling import quantile

        del clean
        return quantile(image.abs(), 0.999)


def uniform(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float64, from a seed and a name."""
    from invdiff.rng import generator

    return torch.rand(shape, generator=generator(seed, name), dtype=torch.float64)
