"""The scale of intensities: one invertible object at the prior's door."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import CapabilityError, PriorError
from invdiff.linalg import root_sum_of_squares, stacked
from invdiff.problem import InverseProblem


@dataclass(frozen=True)
class Scaling:
    """x = offset + unit * u: the unknown x in its physical units, u in the prior's."""

    unit: float
    offset: float = 0.0

    def encode(self, problem: InverseProblem[Any, Any]) -> InverseProblem[Any, Any]:
        """The same linear problem for u: measurements, less those of the offset, and noise are divided by the unit.

        Raises:
            CapabilityError: an offset, and noise that has no law after it is taken off: counts, magnitudes.
        """
        y, A = problem.y, problem.operator
        if self.offset:
            if problem.noise.real:
                raise CapabilityError(
                    f"{type(problem.noise).__name__} is a law of magnitudes or counts from 0 on, the 0 of this prior "
                    f"lies at {self.offset:g}; choose a prior without a window"
                )
            x = torch.full((A.problems or 1, *A.domain.shape), self.offset, dtype=A.domain.dtype, device=y.device)
            y = y - A(x)
        return replace(problem, y=y / self.unit, noise=problem.noise.in_units(self.unit))

    def decode(self, u: Tensor) -> Tensor:
        """The unknown in its physical units."""
        return self.decode_(u.clone())

    def decode_(self, u: Tensor) -> Tensor:
        """The same in the place of u."""
        return u.mul_(self.unit).add_(self.offset)


@dataclass(frozen=True)
class Units:
    """What the numbers of a prior mean; stands on its card.

    Attributes:
        window: stored values, e.g. Hounsfield units, that become the ends of `range`. None: zero and the 99.9th
            percentile of the magnitude do, measured on the start image of each problem.
        range: the prior's numbers for these two; (0, 1) in priors of our own, often (-1, 1) in foreign ones.
    """

    window: tuple[float, float] | None = None
    range: tuple[float, float] = (0.0, 1.0)

    def of(self, problem: InverseProblem[Any, Any], *, air: float = 0.0) -> Scaling:
        """The scale of one problem, never of the truth.

        Args:
            problem: what was measured; its unknown is the stored image less `air`, (C, H, W); two channels are the
                real and imaginary part of a complex image.
            air: stored value of air.

        Raises:
            PriorError: the measurement is zero everywhere, so there is no scale.
        """
        low, high = (0.0, _brightest(problem)) if self.window is None else (w - air for w in self.window)
        if not high > low:
            raise PriorError("the measurement is zero everywhere: no intensity scale for the prior; check the input")
        return self.between(low, high)

    def between(self, low: float, high: float) -> Scaling:
        """The scale that maps `low` and `high` to the ends of `range`."""
        unit = (high - low) / (self.range[1] - self.range[0])
        return Scaling(unit, low - unit * self.range[0])


def _brightest(problem: InverseProblem[Any, Any]) -> float:
    """The 99.9th percentile of the start images."""
    starts = (part.operator.direct(part.y) for _, part in problem.parts())
    return quantile(stacked((root_sum_of_squares(x, 1) for x in starts), len(problem.y)), 0.999)


def percentile(images: Tensor) -> float:
    """The 99.9th percentile of the magnitude over all voxels, images (P, C, *spatial)."""
    return quantile(root_sum_of_squares(images, 1), 0.999)


def quantile(x: Tensor, q: float) -> float:
    """Quantile of all elements of any tensor (torch.quantile stops at 2^24 elements)."""
    values = x.detach().flatten().cpu().numpy()
    k = max(1, min(values.size, round(q * values.size))) - 1
    return float(np.partition(values, k)[k])  # kthvalue takes three times the memory
