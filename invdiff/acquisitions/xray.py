"""What scanners that send X-rays through a body have in common: air, dose, the filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.acquisitions.base import Acquisition
from invdiff.attenuation import MU_WATER
from invdiff.errors import ConfigError
from invdiff.noise.base import NoiseModel
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators import LinearOperator
from invdiff.operators.diagonal import Diagonal
from invdiff.rng import Rng, generator
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class XRay(Acquisition):
    """Line integrals of what is stored, less that of air: Hounsfield units by default.

    With `photons`, y holds the logarithms of counts, each times the square root of its count, so that their noise is
    white: y = sqrt(N / I0) log(I0 / N) / mu, N ~ Poisson(I0 exp(-mu A x)), sigma = 1 / (mu sqrt(I0)), with A in mm and
    mu the attenuation in 1/mm of one stored unit. This is the weighted least squares of Sauer and Bouman (1993), IEEE
    Trans. Signal Process. 41.
    """

    noise_reference: ClassVar[str] = "mean of the clean |y|"

    air: Annotated[float, Doc("Stored value of air: -1000 in Hounsfield units, 0 for attenuation in 1/mm.")] = -1000.0
    photons: Annotated[
        float | None,
        Gt(0),
        Doc("Photons of a ray that meets nothing, e.g. 1e5: the noise is that of their counts, --noise is not used."),
    ] = None
    mu_water: Annotated[float, Gt(0), Doc("Attenuation of water in 1/mm, 0.0192 at 70 keV; photons ask for it.")] = (
        MU_WATER
    )
    filter: Annotated[Literal["ramp", "shepp-logan", "hann"], Doc("Filter of --solver direct.")] = "ramp"

    @property
    def prior(self) -> str:
        """Bodies in Hounsfield units."""
        return "ct-body"

    @property
    def zero(self) -> float:
        """Air."""
        return self.air

    def to_unknown(self, stored: Tensor, seed: int) -> Tensor:
        """Attenuation above that of air."""
        del seed
        return stored - self.air

    def to_stored(self, unknown: Tensor) -> Tensor:
        """Back to stored values."""
        return unknown + self.air

    def noise_unit(self, image: Tensor, clean: Tensor) -> float:
        """Mean of |y|."""
        del image
        return float(clean.abs().mean())

    def per_mm(self) -> float:
        """Attenuation in 1/mm of one unit of what is stored: in Hounsfield units that of water / 1000.

        Raises:
            ConfigError: air at a positive value, which neither Hounsfield units nor attenuation have.
        """
        if self.air > 0:
            raise ConfigError(f"photons need Hounsfield units (air = -1000) or 1/mm (air = 0), got air = {self.air:g}")
        return self.mu_water / -self.air if self.air else 1.0

    def whitened(self, projector: LinearOperator, maps: dict[str, Tensor]) -> LinearOperator:
        """Each ray times its weight, once they are known: `weights`, (P, *range without its channel)."""
        if "weights" not in maps:
            return projector
        return Diagonal(projector.range, maps["weights"][:, None]) @ projector

    def measure(
        self,
        image: Tensor,
        clean: Tensor,
        maps: dict[str, Tensor],
        noise: type[NoiseModel],
        fraction: float,
        rng: Rng,
    ) -> tuple[Tensor, NoiseModel, dict[str, Tensor]]:
        """Noise as of all acquisitions; with `photons`, counts, their white logarithms and the map `weights`.

        Then `clean` is in stored units times mm.
        """
        if self.photons is None:
            return super().measure(image, clean, maps, noise, fraction, rng)
        if noise is not GaussianNoise:
            raise ConfigError(f"photons make noise of their own; leave {noise.__name__} out, or photons")
        mu = self.per_mm()
        counts = poisson(self.photons * torch.exp(-mu * clean.double()), rng)
        # A ray that no photon passes is taken as half a count: its logarithm stays finite, its weight next to nothing.
        counts = counts.clamp_min(0.5)
        weights = (counts / self.photons).sqrt()
        y = weights * torch.log(self.photons / counts) / mu
        return y.to(clean), GaussianNoise(1 / (mu * math.sqrt(self.photons))), {"weights": weights[:, 0].to(clean)}


def poisson(rate: Tensor, rng: Rng) -> Tensor:
    """Counts of the given mean, one stream of `rng` for each row."""
    rows = zip(rate, rng.streams, strict=True)
    return torch.stack([torch.poisson(row, generator=generator(seed, "photons", 0, i)) for row, (seed, i) in rows])


def square(space: Space, spacing: tuple[float, ...], why: str) -> float:
    """Pixel size in mm; ConfigError when its sides differ by more than 1 %."""
    smallest, largest = min(spacing), max(spacing)
    if largest > 1.01 * smallest:
        sides = " x ".join(f"{mm:g}" for mm in spacing)
        raise ConfigError(f"{why} needs square pixels, found {sides} mm in images of {space}; resample it first")
    return spacing[0]
