"""What a network promises to the priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """Maps an image and a noise label to an image.

    Attributes:
        config: arguments of the constructor, JSON-able, `in_channels` among them.
        multiple_of: height and width must be multiples of it.
        adaptable: kinds of residual and attention blocks, whose weights `invdiff.priors.lowrank` can adapt to a scan.
    """

    adaptable: ClassVar[tuple[type[nn.Module], ...]] = ()

    config: dict[str, Any]
    multiple_of: int

    @abstractmethod
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) -> (B, C', H, W); channels beyond C, such as a learned variance, are ignored."""
