"""Settings of a scanner: small, frozen, writable as YAML. They make operators; tensors live there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invdiff.noise.base import NoiseModel
from invdiff.operators.base import LinearOperator
from invdiff.rng import Rng, generator
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class Acquisition(ABC):
    """How images are measured: the slices of a volume one by one, or the volume as a whole.

    A stored image is (1, H, W), or (1, X, Y, Z) for a volume; `spacing` has one voxel size in mm for each of its
    spatial axes.

    Class attributes:
        noise_reference: what a noise level of 1 means: the 99.9th percentile of the clean image, or the mean of the
            clean |y|.
        of_the_unknown: settings that shape what simulation measures, and not how.
    """

    noise_reference: ClassVar[str] = "p99.9 of the clean image"
    of_the_unknown: ClassVar[frozenset[str]] = frozenset()

    @property
    def volumetric(self) -> bool:
        """Whether a volume is measured as a whole; else its slices are problems of their own."""
        return False

    @property
    def prior(self) -> str:
        """Name of the shipped prior that fits what is measured."""
        return "brain-mr"

    @property
    def bridge(self) -> str | None:
        """Name of the shipped bridge that undoes what is measured; None where there is none."""
        return None

    @property
    def zero(self) -> float:
        """Stored value of a voxel whose unknown is 0: air."""
        return 0.0

    def domain(self, space: Space) -> Space:
        """Space of the unknown, given that of a stored image."""
        return space

    def to_unknown(self, stored: Tensor, seed: int) -> Tensor:
        """What the scanner sees of stored images, (P, 1, *spatial) -> (P, *domain)."""
        del seed
        return stored

    def to_stored(self, unknown: Tensor) -> Tensor:
        """What is stored of the unknown, (P, *domain) -> (P, 1, *spatial)."""
        return unknown

    def finer(self, axes: int) -> tuple[int, ...]:
        """Voxels of the unknown in one voxel of the measured image, along each of its `axes` spatial axes.

        Only for measurements that are images themselves: 1 for blur or noise, the factor where voxels were averaged.
        """
        return (1,) * axes

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """Tensors that are drawn, or read from the user's files, once and stored with the measurement."""
        del space, spacing, seed
        return {}

    @abstractmethod
    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """The physics.

        Args:
            space: one stored image; the operator acts on `domain(space)`.
            spacing: voxel size along its spatial axes in mm.
            maps: what `maps` and `measure` gave, possibly long ago, from a file.
        """

    def measure(
        self,
        image: Tensor,
        clean: Tensor,
        maps: dict[str, Tensor],
        noise: type[NoiseModel],
        fraction: float,
        rng: Rng,
    ) -> tuple[Tensor, NoiseModel, dict[str, Tensor]]:
        """Noise on clean measurements.

        Args:
            image: the unknown, (P, *domain).
            clean: A(image), (P, *range).
            maps: what `maps` gave.
            noise: which model.
            fraction: its level, 1 being `noise_unit`.
            rng: one stream for each of the P.

        Returns:
            y, the law of its noise, and maps that only the measurement tells, such as weights of its rays.
        """
        del maps
        model = noise.at(self.noise_unit(image, clean), fraction)
        return model.sample(clean, rng), model, {}

    def noise_unit(self, image: Tensor, clean: Tensor) -> float:
        """The value that `--noise 1` stands for, given the clean unknown and clean measurements."""
        from invdiff.priors.scaling import percentile

        del clean
        return percentile(image)


def uniform(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float64, from a seed and a name."""
    return torch.rand(shape, generator=generator(seed, name), dtype=torch.float64)
