"""The scale of intensities: one invertible object at the prior's door."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.linalg import cg
from invdiff.problem import InverseProblem


@dataclass(frozen=True)
class Scaling:
    """x = unit * u: images in scanner units, u in the prior's units, where the 99.9th percentile is 1."""

    unit: float

    @classmethod
    def of(cls, problem: InverseProblem[Any, Any]) -> Scaling:
        """The 99.9th percentile of |start image|, never of the truth; the start is 10 steps of least squares.

        Raises:
            PriorError: the measurement is zero everywhere, so there is no scale.
        """
        A = problem.operator
        b = A.adjoint(problem.y)
        start = cg(A.normal, b, torch.zeros_like(b), iterations=10, tolerance=1e-3)
        unit = quantile(start.abs(), 0.999)
        if not unit > 0:
            raise PriorError("the measurement is zero everywhere: no intensity scale for the prior; check the input")
        return cls(unit)

    def encode(self, problem: InverseProblem[Any, Any]) -> InverseProblem[Any, Any]:
        """The same linear problem for u = x / unit: measurements and noise are divided by the unit."""
        return replace(problem, y=problem.y / self.unit, noise=problem.noise.in_units(self.unit))

    def decode(self, u: Tensor) -> Tensor:
        """Images in scanner units."""
        return self.unit * u


def quantile(x: Tensor, q: float) -> float:
    """Quantile of all elements of any tensor (torch.quantile stops at 2^24 elements)."""
    values = x.flatten()
    k = max(1, min(values.numel(), round(q * values.numel())))
    return float(values.kthvalue(k).values)
