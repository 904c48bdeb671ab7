"""p(y | A(x)): what noise models promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from invdiff.rng import Rng


@dataclass(frozen=True)
class NoiseModel(ABC):
    """The law of a measurement around its clean value.

    Class attributes:
        real: whether it is a law of real numbers only: counts, magnitudes.
        white: whether a unitary transform of a measurement leaves the law as it is.
    """

    real: ClassVar[bool] = False
    white: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def at(cls, unit: float, fraction: float) -> Self:
        """The model whose standard deviation is `fraction` of `unit` where the clean value is `unit`, or nearly so."""

    @abstractmethod
    def sample(self, clean: Tensor, rng: Rng) -> Tensor:
        """Noisy measurements of `clean`, (B, *), one stream of `rng` per row."""

    @abstractmethod
    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """log p(y | clean), (B, *) and (B, *) -> (B,)."""

    @abstractmethod
    def in_units(self, unit: float) -> NoiseModel:
        """The same noise on measurements divided by `unit`."""
