"""Label map -> image of random contrast: anatomy without the intensities of any one sequence (Billot et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from invdiff.training import augment


class LabelCrops:
    """Crops of label maps, painted: one random intensity per tissue and crop, partial volume, texture, bias field.

    Args:
        maps: integer arrays (X, Y, Z), 0 is background.
    """

    channels = 1

    def __init__(self, maps: Sequence[Tensor]) -> None:
        self.stacks = [m.float().movedim(axis, 0)[:, None].contiguous() for m in maps for axis in range(3)]
        self.tissues = int(max(m.max() for m in maps)) + 1

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Crops (count, 1, size, size)."""
        crops = torch.stack([self._crop(size, generator) for _ in range(count)])
        texture = 1 + 0.03 * torch.randn(crops.shape, generator=generator)
        return augment.contrast(crops * texture, generator)

    def _crop(self, size: int, g: Generator) -> Tensor:
        for _ in range(4):  # prefer tissue
            stack = self.stacks[int(torch.randint(len(self.stacks), (), generator=g))]
            labels = augment.warp(stack[int(torch.randint(len(stack), (), generator=g))], 2 * size, g, mode="nearest")
            if (labels > 0).float().mean() > 0.1:
                break
        paint = torch.rand(self.tissues, generator=g)
        paint[0] = 0.0
        return F.avg_pool2d(paint[labels.long()], 2)  # two samples a side: partial volume
