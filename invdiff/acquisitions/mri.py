"""Cartesian MRI with missing phase-encoding lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.acquisitions.base import Acquisition, uniform
from invdiff.operators import LinearOperator, UndersampledFourier
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class MRI(Acquisition):
    """Single-coil 2-D Cartesian k-space; phase encoding along the first axis of a slice.

    The unknown is real-valued for now: a real image has conjugate-symmetric k-space, so each line off the centre also
    tells of its mirror line. This makes undersampling milder than for complex images at the same acceleration.
    """

    acceleration: Annotated[float, Ge(1), Doc("Lines of a full scan divided by lines measured.")] = 4.0
    center_fraction: Annotated[
        float, Gt(0), Le(1), Doc("Fraction of all lines, around DC, that are always measured.")
    ] = 0.08
    pattern: Annotated[Literal["random", "equispaced"], Doc("Where the other lines lie.")] = "random"

    def maps(self, space: Space, spacing: tuple[float, float], seed: int) -> dict[str, Tensor]:
        """`lines`: bool, (H,), DC at index 0; one pattern for all slices."""
        del spacing
        h = space.shape[1]
        budget = max(1, round(h / self.acceleration))
        distance = torch.minimum(torch.arange(h), h - torch.arange(h))
        order = torch.argsort(distance, stable=True)
        lines = torch.zeros(h, dtype=torch.bool)
        lines[order[: min(budget, max(1, round(self.center_fraction * h)))]] = True
        rest = torch.sort(order[int(lines.sum()) :]).values
        missing = budget - int(lines.sum())
        if self.pattern == "random":
            picks = rest[torch.argsort(uniform(seed, "lines", (len(rest),)))[:missing]]
        else:
            offset = float(uniform(seed, "lines", ())) if missing else 0.0
            picks = rest[((torch.arange(missing) + offset) * len(rest) / max(missing, 1)).long()]
        lines[picks] = True
        return {"lines": lines}

    def operator(self, space: Space, spacing: tuple[float, float], maps: dict[str, Tensor]) -> LinearOperator:
        """Mask @ FFT @ RealImage."""
        del spacing
        return UndersampledFourier(space, maps["lines"][:, None])
