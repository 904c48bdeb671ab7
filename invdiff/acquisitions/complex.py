"""What all MRI shares: an unknown with a phase, of which the magnitude is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_doc import Doc
from annotated_types import Ge
from scipy.ndimage import zoom
from torch import Tensor

from invdiff.acquisitions.base import Acquisition
from invdiff.linalg import root_sum_of_squares
from invdiff.operators.base import LinearOperator
from invdiff.operators.channels import ComplexFromChannels, RealImage
from invdiff.rng import generator
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class ComplexImage(Acquisition):
    """An unknown of real and imaginary part, as it is in a scanner; `image = real` assumes that it has no phase."""

    of_the_unknown: ClassVar[frozenset[str]] = frozenset({"phase"})

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
        """The image times exp(i phase), as two channels.

        Volumes share one phase over all frames; slices have one that varies smoothly from each to the next.
        """
        if self.image == "real":
            return stored
        angle = smooth_phase(tuple(stored[:, 0].shape[-3:]), self.phase, seed).to(stored)
        angle = angle.expand_as(stored[:, 0])[:, None]
        return torch.cat([stored * angle.cos(), stored * angle.sin()], dim=1)

    def to_stored(self, unknown: Tensor) -> Tensor:
        """The magnitude."""
        return root_sum_of_squares(unknown, 1)[:, None] if self.image == "complex" else unknown

    def entry(self, space: Space) -> LinearOperator:
        """The right end of the physics: from `domain(space)` to complex images (1, *spatial)."""
        return (ComplexFromChannels if self.image == "complex" else RealImage)(self.domain(space))


def smooth_phase(shape: tuple[int, ...], spread: float, seed: int) -> Tensor:
    """Any constant phase, and a field with four knots along each axis, cubic between them; rad, float64.

    Args:
        shape: of the volume, or (slices, H, W).
        spread: standard deviation of the field about the constant, in rad.
        seed: of both.
    """
    g = generator(seed, "phase")
    knots = torch.randn((4,) * len(shape), generator=g, dtype=torch.float64).numpy()
    field = zoom(knots, np.array(shape) / 4, order=3, mode="nearest", grid_mode=True)
    offset = 2 * np.pi * float(torch.rand((), generator=g))
    return torch.from_numpy(offset + spread * (field - field.mean()) / field.std())
