"""Cartesian MRI with missing phase-encoding lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from scipy.ndimage import zoom
from torch import Tensor

from invdiff.acquisitions.base import Acquisition, uniform
from invdiff.operators import LinearOperator, UndersampledComplexFourier, UndersampledFourier
from invdiff.rng import generator
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class MRI(Acquisition):
    """Single-coil 2-D Cartesian k-space; phase encoding along the first axis of a slice.

    The unknown is complex, as it is in a scanner. Of a real one each line off the centre would also tell of its mirror
    line, since its k-space is conjugate-symmetric: `image = real` makes undersampling milder than it is in truth.
    """

    acceleration: Annotated[float, Ge(1), Doc("Lines of a full scan divided by lines measured.")] = 4.0
    center_fraction: Annotated[
        float, Gt(0), Le(1), Doc("Fraction of all lines, around DC, that are always measured.")
    ] = 0.08
    pattern: Annotated[Literal["random", "equispaced"], Doc("Where the other lines lie.")] = "random"
    image: Annotated[Literal["complex", "real"], Doc("Whether the unknown has a phase.")] = "complex"
    phase: Annotated[
        float, Ge(0), Doc("Spread, in rad, of the smooth random phase that simulation gives to complex images.")
    ] = 1.0

    @property
    def prior(self) -> str:
        """Heads: complex, or magnitudes."""
        return "brain-mr-complex" if self.image == "complex" else "brain-mr"

    def domain(self, space: Space) -> Space:
        """Real and imaginary channel, or the image itself."""
        return Space((2, *space.shape[1:]), space.dtype) if self.image == "complex" else space

    def to_unknown(self, stored: Tensor, seed: int) -> Tensor:
        """The image times exp(i phase), as two channels."""
        if self.image == "real":
            return stored
        angle = self._angle(tuple(stored[:, 0].shape), seed).to(stored)[:, None]
        return torch.cat([stored * angle.cos(), stored * angle.sin()], dim=1)

    def to_stored(self, unknown: Tensor) -> Tensor:
        """The magnitude."""
        return torch.linalg.vector_norm(unknown, dim=1, keepdim=True) if self.image == "complex" else unknown

    def _angle(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Any constant phase, and a field with four knots along each axis, cubic between them."""
        g = generator(seed, "phase")
        knots = torch.randn((4, 4, 4), generator=g, dtype=torch.float64).numpy()
        field = zoom(knots, np.array(shape) / 4, order=3, mode="nearest", grid_mode=True)
        offset = 2 * np.pi * float(torch.rand((), generator=g))
        return torch.from_numpy(offset + self.phase * (field - field.mean()) / field.std())

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
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

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """Mask @ FFT @ ComplexFromChannels, or @ RealImage."""
        del spacing
        kind = UndersampledComplexFourier if self.image == "complex" else UndersampledFourier
        return kind(self.domain(space), maps["lines"][:, None])
