"""What the user says of the noise of a real scan, and what else tells."""

from __future__ import annotations

from dataclasses import dataclass, replace

from invdiff.errors import ConfigError
from invdiff.measurements import Measurement
from invdiff.noise.gaussian import GaussianNoise


@dataclass(frozen=True)
class Level:
    """The noise level that the user gives, if any.

    Attributes:
        sigma: standard deviation per real component, in the units of the file's numbers.
        fraction: the same as a fraction of what simulation takes as its unit, measured on the direct reconstruction:
            the 99.9th percentile of the image, or (CT) the mean of |y|.

    Raises:
        ConfigError: both, or a negative one.
    """

    sigma: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if None not in (self.sigma, self.fraction):
            raise ConfigError("--noise and --sigma both give the noise level; give one of them")
        for name, value in (("--sigma", self.sigma), ("--noise", self.fraction)):
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be a finite number >= 0, got {value:g}")

    @property
    def given(self) -> bool:
        """Whether the user said anything."""
        return self.sigma is not None or self.fraction is not None


UNKNOWN = Level()


def with_level(m: Measurement, level: Level) -> Measurement:
    """The measurement with the level that the user gives, in place of the one it has."""
    if not level.given:
        return m
    sigma = level.sigma
    if sigma is None:
        unit = m.acquisition.noise_unit(m.operator().direct(m.y), m.y)
        sigma = float(level.fraction or 0) * unit
    return replace(m, noise=GaussianNoise(sigma), facts=m.facts | {"noise_from": "given"})
