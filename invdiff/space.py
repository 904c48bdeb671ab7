"""The space an element lives in: shape and number type of one image or one measurement, without a batch axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Space:
    """Shape (C, *spatial) and dtype of one element."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def reals(self) -> int:
        """Number of real scalars in one element; a complex number counts as two."""
        return math.prod(self.shape) * (2 if self.dtype.is_complex else 1)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {str(self.dtype).removeprefix('torch.')}"
