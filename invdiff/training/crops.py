"""Sources of training crops: volumes, mixtures of sources, and magnitudes with a phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from invdiff.training import augment

Planes = Literal["all", 0, 1, 2]


class Source(Protocol):
    """Draws square 2-D crops in the prior's units."""

    @property
    def channels(self) -> int:
        """Of a crop."""

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Crops (count, channels, size, size); the same generator state gives the same crops."""


class Crops:
    """Crops of volumes: every usable plane, turned, warped and, on request, with its contrast changed.

    A plane is used where its two voxel sides differ by less than a factor of two. Each volume is also kept at half
    resolution, averaged over 2 x 2 x 2 voxels (2 x 2 x 1 for thick slices), so that a prior sees fine and coarse
    voxels. Every volume is drawn equally often: many voxels of one anatomy teach less than few of another.

    Args:
        volumes: arrays (C, X, Y, Z) in the prior's units: air at 0, the brightest tissue about 1 in magnitude; C = 2
            for real and imaginary part.
        spacings: voxel sizes in mm, one triple per volume.
        planes: all, or the one axis that counts the slices.
        contrast: whether gamma, curve, bias field and scale vary; for magnitudes, not for Hounsfield units.

    Attributes:
        spacing: least and greatest side of a pixel, in mm.

    Raises:
        ValueError: no volume has a usable plane.
    """

    def __init__(
        self,
        volumes: Sequence[Tensor],
        spacings: Sequence[Sequence[float]],
        *,
        planes: Planes = "all",
        contrast: bool = True,
    ) -> None:
        self.contrast, self.channels = contrast, len(volumes[0])
        # Each stack is (slices, C, H, W), contiguous: slicing the last axis costs more than a step.
        self.stacks: list[Tensor] = []
        weights: list[float] = []
        sides: list[float] = []
        for v, spacing in zip(volumes, spacings, strict=True):
            pool = _pool(v, spacing)
            half = F.avg_pool3d(v[None], pool, pool)[0]
            for level, mm in ((v, list(spacing)), (half, [p * s for p, s in zip(pool, spacing, strict=True)])):
                axes = range(3) if planes == "all" else [planes]
                usable = [a for a in axes if _ratio(spacing, a) < 2 and min(_plane(level, a)) >= 16]
                for axis in usable:
                    self.stacks.append(level.movedim(axis + 1, 0).contiguous())
                    weights.append(1 / len(usable))
                    sides += [s for a, s in enumerate(mm) if a != axis]
        if not self.stacks:
            raise ValueError("no plane of these volumes has 16 x 16 voxels of nearly square sides; use other planes")
        self.weights = torch.tensor(weights)
        self.spacing = [round(min(sides), 3), round(max(sides), 3)]

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Crops (count, C, size, size)."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        crops = torch.stack([self._crop(self.stacks[int(i)], size, generator) for i in chosen])
        return augment.contrast(crops, generator) if self.contrast else crops

    def _crop(self, stack: Tensor, size: int, g: Generator) -> Tensor:
        for _ in range(4):  # prefer tissue; air has its place but not half of the batch
            image = stack[int(torch.randint(len(stack), (), generator=g))]
            warped = torch.rand((), generator=g) < 0.5
            crop = augment.warp(image, size, g) if warped else augment.cut(image, size, g)
            if crop.square().mean() > 0.002:
                break
        return augment.turn(crop, g)


class Mixed:
    """Several sources, each crop from one of them.

    Args:
        sources: with the same number of channels.
        weights: how often each is drawn, any scale.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        self.sources, self.weights = sources, torch.tensor([float(w) for w in weights])
        self.channels = sources[0].channels

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Crops (count, channels, size, size), grouped by source."""
        picks = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        counts = torch.bincount(picks, minlength=len(self.sources)).tolist()
        return torch.cat([s.draw(n, size, generator) for s, n in zip(self.sources, counts, strict=True) if n])


class WithPhase:
    """A source of magnitudes, made complex by a smooth random phase: real and imaginary channel."""

    channels = 2

    def __init__(self, magnitudes: Source) -> None:
        self.magnitudes = magnitudes

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Crops (count, 2, size, size)."""
        return augment.phase(self.magnitudes.draw(count, size, generator), generator)


def _pool(volume: Tensor, spacing: Sequence[float]) -> list[int]:
    """Voxels to average along each axis: two, but for thick slices and single ones."""
    thick = max(spacing) > 2 * min(spacing)
    return [1 if n < 2 or (thick and s == max(spacing)) else 2 for n, s in zip(volume.shape[1:], spacing, strict=True)]


def _ratio(spacing: Sequence[float], axis: int) -> float:
    sides = [s for a, s in enumerate(spacing) if a != axis]
    return max(sides) / min(sides)


def _plane(volume: Tensor, axis: int) -> list[int]:
    return [n for a, n in enumerate(volume.shape[1:]) if a != axis]
