"""Counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_doc import Doc
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.noise.base import NoiseModel
from invdiff.rng import Rng


@dataclass(frozen=True)
class PoissonNoise(NoiseModel):
    """y = gain N with N ~ Poisson(A(x) / gain): mean A(x), variance gain A(x).

    Attributes:
        gain: units of y for one count, > 0.

    Raises:
        ConfigError: a gain that is not a finite number > 0; negative clean values.
    """

    real: ClassVar[bool] = True

    gain: Annotated[float, Doc("Units of y for one count.")]

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise ConfigError(f"the gain of counts must be a finite number > 0, got {self.gain:g}; noise 0 has none")

    @classmethod
    def at(cls, unit: float, fraction: float) -> PoissonNoise:
        """Gain = fraction^2 * unit: at `unit` the standard deviation is fraction * unit."""
        return cls(fraction**2 * unit)

    def sample(self, clean: Tensor, rng: Rng) -> Tensor:
        """Gain times counts, drawn in double precision."""
        _check(clean)
        return self.gain * rng.poisson("noise", 0, clean / self.gain)

    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """Log probability of the counts y / gain; the gamma function interpolates between whole counts."""
        _check(clean)
        N, mean = y / self.gain, clean / self.gain
        return (torch.xlogy(N, mean) - mean - torch.lgamma(N + 1)).flatten(1).sum(1)

    def in_units(self, unit: float) -> PoissonNoise:
        """Gain / unit."""
        return PoissonNoise(self.gain / unit)


def _check(clean: Tensor) -> None:
    if bool((clean < 0).any()):
        raise ConfigError(
            f"Poisson noise needs clean values >= 0, the least is {float(clean.min()):.3g}; shift the image or choose "
            "Gaussian noise"
        )
