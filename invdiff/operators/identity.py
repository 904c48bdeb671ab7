"""The identity: denoising."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.operators.base import SVDOperator
from invdiff.space import Space


class Identity(SVDOperator):
    """y = x."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.domain = self.range = space
        self.singular_values: Tensor
        self.register_buffer("singular_values", torch.ones((), dtype=space.dtype.to_real()))

    def forward(self, x: Tensor) -> Tensor:
        """X."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Y."""
        return y

    def normal(self, x: Tensor) -> Tensor:
        """X."""
        return x

    def U(self, modes: Tensor) -> Tensor:
        """The identity."""
        return modes

    def UH(self, y: Tensor) -> Tensor:
        """The identity."""
        return y

    def V(self, modes: Tensor) -> Tensor:
        """The identity."""
        return modes

    def VH(self, x: Tensor) -> Tensor:
        """The identity."""
        return x
