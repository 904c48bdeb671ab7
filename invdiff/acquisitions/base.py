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

    @property
    def prior(self) -> str:
        """Name of the shipped prior that fits what is measured."""
        return "brain-mr"

    @property
    def zero(self) -> float:
        """Stored value of a voxel whose unknown is 0: air."""
        return 0.0

    def domain(self, space: Space) -> Space:
        """Space of the unknown, given that of a stored slice, (1, H, W)."""
        return space

    def to_unknown(self, stored: Tensor, seed: int) -> Tensor:
        """What the scanner sees of stored slices, (P, 1, H, W) -> (P, *domain)."""
        del seed
        return stored

    def to_stored(self, unknown: Tensor) -> Tensor:
        """What is stored of the unknown, (P, *domain) -> (P, 1, H, W)."""
        return unknown

    def maps(self, space: Space, spacing: tuple[float, float], seed: int) -> dict[str, Tensor]:
        """Tensors that are drawn or given once and stored with the measurement: masks, coil maps."""
        del space, spacing, seed
        return {}

    @abstractmethod
    def operator(self, space: Space, spacing: tuple[float, float], maps: dict[str, Tensor]) -> LinearOperator:
        """The physics.

        Args:
            space: one stored slice, (1, H, W); the operator acts on `domain(space)`.
            spacing: voxel size along H and W in mm.
            maps: what `maps` gave, possibly long ago, from a file.
        """

    def noise_unit(self, image: Tensor, clean: Tensor) -> float:
        """The value that `--noise 1` stands for, given the clean unknown and clean measurements."""
        from invdiff.priors.scaling import percentile

        del clean
        return percentile(image)


def uniform(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float64, from a seed and a name."""
    from invdiff.rng import generator

    return torch.rand(shape, generator=generator(seed, name), dtype=torch.float64)
