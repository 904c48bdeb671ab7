"""The law of what lies at a voxel, given mean and standard deviation of few samples: quantiles, exceedance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from torch import Tensor

from invdiff.errors import ConfigError

Floats = NDArray[np.floating[Any]]
ONE_STD = math.erf(math.sqrt(0.5))  # share of a Gaussian within one standard deviation


@dataclass(frozen=True)
class Law:
    """(x - mean) / (scale * spread) follows Student's t; a calibration stretches that. By default the Gaussian.

    Attributes:
        freedom: degrees of freedom of Student's law; infinite for the Gaussian.
        scale: what the spread is multiplied by.
        floor: least spread, in the units of the mean: spread^2 = std^2 + floor^2.
        stretch: pairs (multiple of the spread by Student's law, multiple that covers as much in truth), both rising:
            a Q-Q plot, linear in between and, from the last pair on, proportional. Empty: the law as it is.
    """

    freedom: float = math.inf
    scale: float = 1.0
    floor: float = 0.0
    stretch: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, samples: int, *, antithetic: bool) -> Law:
        """The law of one more draw, after mean and standard deviation (divided by n - 1) of n.

        Independent Gaussian draws: (x - mean) / (std sqrt(1 + 1/n)) has n - 1 degrees of freedom (Hahn and Meeker,
        Statistical Intervals, 1991). In a pair of opposite noise the deviations of a Gaussian cancel: the mean is
        that of the posterior, and std^2 (n - 1) is twice a sum of n / 2 squares, so that
        (x - mean) / (std sqrt((n - 1) / n)) has n / 2 of them. Where one sample is without its opposite the squares are
        of two sizes; their number is Satterthwaite's (Biometrics 1946). Real posteriors lie in between, near to pairs.

        Raises:
            ConfigError: one sample, which has no spread.
        """
        n = samples
        if n < 2:
            raise ConfigError(f"an interval needs the spread of two samples or more, found {n}; draw more")
        if not antithetic:
            return cls(n - 1, math.sqrt(1 + 1 / n))
        alone = n % 2
        squares = n - alone / n
        freedom = squares**2 / (4 * (n // 2) + alone * (1 - 1 / n) ** 2)
        return cls(freedom, math.sqrt((1 + alone / n**2) * (n - 1) / squares))

    def widened(self, levels: Sequence[float], factors: Sequence[float] | Floats, floor: float = 0.0) -> Law:
        """The same law with the interval of each level wider by a factor, and a floor."""
        multiples = self.multiple(levels)
        pairs = zip(multiples.tolist(), (multiples * factors).tolist(), strict=True)
        return Law(self.freedom, self.scale, floor, tuple(pairs))

    def multiple(self, level: ArrayLike) -> Floats:
        """Half the width of the central interval that covers `level`, in spreads."""
        return self._stretched(self.scale * student.ppf((1 + np.asarray(level)) / 2, self.freedom))

    def level(self, multiple: ArrayLike) -> Floats:
        """How much the central interval of this half-width covers: the inverse of `multiple`."""
        return 2 * student.cdf(self._stretched(multiple, back=True) / self.scale, self.freedom) - 1

    def spread(self, std: Floats) -> Floats:
        """The standard deviation, not below the floor."""
        return np.sqrt(std**2 + self.floor**2) if self.floor else std

    def below(self, value: ArrayLike, mean: Floats, std: Floats) -> Floats:
        """Probability that x < value; where mean and value are equal and nothing spreads, a half."""
        away = np.asarray(value, np.float64) - mean
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            level = self.level(np.nan_to_num(np.abs(away) / self.spread(std), nan=0.0, posinf=math.inf))
        return 0.5 + 0.5 * np.sign(away) * level

    def quantile_map(self, mean: Tensor, std: Tensor, q: float) -> Tensor:
        """The value below which x lies with probability q, 0 < q < 1, of each voxel."""
        way = math.copysign(float(self.multiple(abs(2 * q - 1))), q - 0.5)
        return mean + way * (torch.sqrt(std**2 + self.floor**2) if self.floor else std)

    def exceedance_map(self, mean: Tensor, std: Tensor, value: float) -> Tensor:
        """The probability that x lies above `value`, of each voxel, plane by plane to spare memory."""
        out = torch.empty_like(mean)
        for plane, m, s in zip(out.flatten(0, 1), mean.flatten(0, 1), std.flatten(0, 1), strict=True):
            plane.copy_(torch.from_numpy(1 - self.below(value, m.numpy(), s.numpy())))
        return out

    def _stretched(self, multiple: ArrayLike, *, back: bool = False) -> Floats:
        x = np.asarray(multiple, np.float64)
        if not self.stretch:
            return x
        ours, theirs = np.array([(0.0, 0.0), *self.stretch]).T
        if back:
            ours, theirs = theirs, ours
        return np.where(x <= ours[-1], np.interp(x, ours, theirs), x * (theirs[-1] / ours[-1]))


GAUSSIAN = Law()
