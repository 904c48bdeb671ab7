"""p(y | A(x)): what noise models promise."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from invdiff.rng import Rng


class NoiseModel(ABC):
    """The law of a measurement around its clean value."""

    @abstractmethod
    def sample(self, clean: Tensor, rng: Rng) -> Tensor:
        """Noisy measurements of `clean`, (B, *), one stream of `rng` per row."""

    @abstractmethod
    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """log p(y | clean), (B, *) and (B, *) -> (B,)."""

    @abstractmethod
    def in_units(self, unit: float) -> NoiseModel:
        """The same noise on measurements divided by `unit`."""
