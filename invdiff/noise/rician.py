"""The magnitude of one complex Gaussian number."""

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
class RicianNoise(NoiseModel):
    """y = |A(x) + n1 + i n2| with n ~ N(0, sigma^2): magnitude MR images of one coil (Gudbjartsson and Patz 1995).

    Attributes:
        sigma: standard deviation per real component, in the units of y, > 0.

    Raises:
        ConfigError: sigma that is not a finite number > 0.
    """

    real: ClassVar[bool] = True

    sigma: Annotated[float, Doc("Standard deviation of real and imaginary part, in the units of y.")]

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    @classmethod
    def at(cls, unit: float, fraction: float) -> RicianNoise:
        """Sigma = fraction * unit."""
        return cls(fraction * unit)

    def sample(self, clean: Tensor, rng: Rng) -> Tensor:
        """The magnitude of clean + sigma (n1 + i n2)."""
        n1, n2 = (rng.normal("noise", part, clean) for part in range(2))
        return torch.hypot(clean + self.sigma * n1, self.sigma * n2)

    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """Log density; minus infinity where y <= 0."""
        s2 = self.sigma**2
        z = y * clean.abs() / s2
        # I0(z) = exp(z) i0e(z), and the exponent is completed to a square: nothing overflows.
        log = y.log() - math.log(s2) - (y - clean.abs()) ** 2 / (2 * s2) + torch.special.i0e(z).log()
        return torch.where(y > 0, log, -math.inf).flatten(1).sum(1)

    def in_units(self, unit: float) -> RicianNoise:
        """Sigma / unit."""
        return RicianNoise(self.sigma / unit)


def check_sigma(sigma: float) -> None:
    """ConfigError unless finite and > 0: a magnitude without noise has no density."""
    if not 0 < sigma < math.inf:
        raise ConfigError(
            f"the noise of magnitudes must be a finite number > 0, got {sigma:g}; use gaussiannoise for 0"
        )
