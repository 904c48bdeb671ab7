"""White Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_doc import Doc
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.linalg import dot
from invdiff.noise.base import NoiseModel
from invdiff.rng import Rng


@dataclass(frozen=True)
class GaussianNoise(NoiseModel):
    """y = A(x) + n with n ~ N(0, sigma^2) on each real component.

    Attributes:
        sigma: standard deviation per real component, in the units of y, >= 0.

    Raises:
        ConfigError: negative or non-finite sigma.
    """

    white: ClassVar[bool] = True
    sigma: Annotated[float, Doc("Standard deviation per real component, in the units of y.")]

    def __post_init__(self) -> None:
        if not (self.sigma >= 0 and math.isfinite(self.sigma)):
            raise ConfigError(f"noise must be a finite number >= 0, got {self.sigma:g}")

    @classmethod
    def at(cls, unit: float, fraction: float) -> GaussianNoise:
        """Sigma = fraction * unit."""
        return cls(fraction * unit)

    def sample(self, clean: Tensor, rng: Rng) -> Tensor:
        """Clean + sigma n."""
        return clean + self.sigma * rng.normal("noise", 0, clean)

    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """Log density; a complex number counts as two real ones. Needs sigma > 0."""
        if self.sigma == 0:
            raise ConfigError("the likelihood of noise with sigma = 0 is not a density; give a noise level > 0")
        r = y - clean
        reals = r[0].numel() * (2 if r.is_complex() else 1)
        return -dot(r, r) / (2 * self.sigma**2) - reals * math.log(self.sigma * math.sqrt(2 * math.pi))

    def in_units(self, unit: float) -> GaussianNoise:
        """Sigma / unit."""
        return GaussianNoise(self.sigma / unit)
