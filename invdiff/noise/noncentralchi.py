"""The root sum of squares of several complex Gaussian numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_doc import Doc
from scipy.special import ive
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.noise.base import NoiseModel
from invdiff.noise.rician import check_sigma
from invdiff.rng import Rng


@dataclass(frozen=True)
class NonCentralChiNoise(NoiseModel):
    """y = sqrt(sum over coils of |a_c + n_c|^2), A(x)^2 = sum of a_c^2: magnitudes of coils, combined.

    Source: Constantinides, Atalar and McVeigh (1997), Magn. Reson. Med. 38. Coils are taken to be independent, with
    equal noise; with one coil it is `RicianNoise`.

    Attributes:
        sigma: standard deviation per real component of each coil, in the units of y, > 0.
        coils: how many, >= 1.

    Raises:
        ConfigError: sigma that is not a finite number > 0, no coils.
    """

    real: ClassVar[bool] = True

    sigma: Annotated[float, Doc("Standard deviation of real and imaginary part of each coil, in the units of y.")]
    coils: Annotated[int, Doc("Receive coils.")] = 4

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        if self.coils < 1:
            raise ConfigError(f"a magnitude needs at least one coil, got {self.coils}")

    @classmethod
    def at(cls, unit: float, fraction: float) -> NonCentralChiNoise:
        """Sigma = fraction * unit, four coils."""
        return cls(fraction * unit)

    def sample(self, clean: Tensor, rng: Rng) -> Tensor:
        """All signal in the first real part, which gives the same law as any other way to spread it."""
        square = (clean + self.sigma * rng.normal("noise", 0, clean)) ** 2
        for part in range(1, 2 * self.coils):
            square = square + (self.sigma * rng.normal("noise", part, clean)) ** 2
        return square.sqrt()

    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """Log density; minus infinity where y <= 0. The Bessel function is scipy's, on the CPU."""
        s2, n, a = self.sigma**2, self.coils, clean.abs()
        bessel: Tensor = _LogBessel.apply(n - 1, y * a / s2)  # type: ignore[no-untyped-call]
        log = (2 * n - 1) * y.log() - n * math.log(s2) - (y - a) ** 2 / (2 * s2) + bessel
        return torch.where(y > 0, log, -math.inf).flatten(1).sum(1)

    def in_units(self, unit: float) -> NonCentralChiNoise:
        """Sigma / unit."""
        return NonCentralChiNoise(self.sigma / unit, self.coils)


class _LogBessel(torch.autograd.Function):
    """log(exp(-z) I_v(z) / z^v), z >= 0, and its derivative, I_(v+1) / I_v - 1."""

    @staticmethod
    def forward(ctx: Any, v: int, z: Tensor) -> Tensor:  # noqa: ANN401
        x = z.detach().double().cpu().numpy()
        small = x < 1e-3  # there z^-v overflows; two terms of the series are exact to 1e-13
        big = np.where(small, 1.0, x)
        value, following = ive(v, big), ive(v + 1, big)
        series = -v * math.log(2) - math.lgamma(v + 1) + x**2 / (4 * (v + 1)) - x
        log = np.where(small, series, np.log(value) - v * np.log(big))
        slope = np.where(small, x / (2 * (v + 1)), following / value) - 1
        ctx.save_for_backward(torch.from_numpy(slope).to(z))
        return torch.from_numpy(log).to(z)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401
        (slope,) = ctx.saved_tensors
        return None, g * slope
