"""Random crops of volumes: every usable plane, turned, warped and with its contrast changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class Crops:
    """Draws square 2-D training crops from a few volumes.

    Intensities are divided by each volume's 99.9th percentile. A plane is used where its two voxel sides differ by
    less than a factor of two. Each volume is also kept at half resolution, averaged over 2 x 2 x 2 voxels (2 x 2 x 1
    for thick slices), so that a prior sees fine and coarse voxels. Every volume is drawn equally often: many voxels of
    one anatomy teach less than few of another.

    Args:
        volumes: arrays (X, Y, Z), any scale.
        spacings: voxel sizes in mm, one triple per volume.
    """

    def __init__(self, volumes: Sequence[Tensor], spacings: Sequence[Sequence[float]]) -> None:
        self.stacks: list[Tensor] = []  # each (slices, H, W), contiguous: slicing the last axis costs more than a step
        weights: list[float] = []
        for volume, spacing in zip(volumes, spacings, strict=True):
            v = volume.float() / torch.quantile(volume.float().flatten()[:: max(1, volume.numel() // 10**6)], 0.999)
            thick = max(spacing) > 2 * min(spacing)
            pool = [1 if thick and s == max(spacing) else 2 for s in spacing]
            half = F.avg_pool3d(v[None, None], pool, pool)[0, 0]
            for level in (v, half):
                planes = [a for a in range(3) if _ratio(spacing, a) < 2 and min(_plane(level, a)) >= 16]
                for axis in planes:
                    self.stacks.append(level.movedim(axis, 0).contiguous())
                    weights.append(1 / len(planes))
        self.weights = torch.tensor(weights)

    def draw(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Crops (count, 1, size, size), intensities about [0, 1]; the same generator state gives the same crops."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        crops = torch.stack([self._crop(self.stacks[int(i)], size, generator) for i in chosen])
        return _contrast(crops, generator)[:, None]

    def _crop(self, stack: Tensor, size: int, g: torch.Generator) -> Tensor:
        for _ in range(4):  # prefer tissue; air has its place but not half of the batch
            image = stack[int(torch.randint(len(stack), (), generator=g))]
            crop = _warped(image, size, g) if torch.rand((), generator=g) < 0.5 else _cut(image, size, g)
            if crop.mean() > 0.03:
                break
        turns = int(torch.randint(8, (), generator=g))
        crop = torch.rot90(crop, turns % 4)
        return crop.flip(0) if turns >= 4 else crop


def _ratio(spacing: Sequence[float], axis: int) -> float:
    sides = [s for a, s in enumerate(spacing) if a != axis]
    return max(sides) / min(sides)


def _plane(volume: Tensor, axis: int) -> list[int]:
    return [n for a, n in enumerate(volume.shape) if a != axis]


def _cut(image: Tensor, size: int, g: torch.Generator) -> Tensor:
    h, w = image.shape
    if h < size or w < size:
        top, left = max(0, size - h) // 2, max(0, size - w) // 2
        image = F.pad(image, (left, max(0, size - w - left), top, max(0, size - h - top)))
        h, w = image.shape
    i = int(torch.randint(h - size + 1, (), generator=g))
    j = int(torch.randint(w - size + 1, (), generator=g))
    return image[i : i + size, j : j + size]


def _warped(image: Tensor, size: int, g: torch.Generator) -> Tensor:
    """A crop through a random affine map and a smooth elastic displacement, bicubic."""
    h, w = image.shape
    r = torch.rand(8, generator=g)
    angle, zoom, shear = 2 * math.pi * float(r[0]), math.exp(0.3 * (float(r[1]) - 0.3)), 0.3 * (float(r[2]) - 0.5)
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[c, -s + shear], [s, c]]) / zoom
    axis = (torch.arange(size) - (size - 1) / 2.0).float()
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    bend = torch.randn((1, 2, 4, 4), generator=g) * size / 50
    grid = grid + F.interpolate(bend, size=(size, size), mode="bicubic", align_corners=True)[0].movedim(0, -1)
    centre = torch.tensor([h, w]) / 2.0 + (r[3:5] - 0.5) * torch.tensor([max(h - size, 0), max(w - size, 0)])
    points = grid @ matrix.T + centre  # row, column in pixels
    points = 2 * (points + 0.5) / torch.tensor([h, w]) - 1
    warped = F.grid_sample(image[None, None], points.flip(-1)[None].float(), "bicubic", "zeros", align_corners=False)
    return warped[0, 0]


def _contrast(crops: Tensor, g: torch.Generator) -> Tensor:
    """Random gamma, curve, bias field and scale: other sequences and coils than the few that were seen."""
    n, size = len(crops), crops.shape[-1]
    r = torch.rand((n, 4, 1, 1), generator=g)
    x = crops.clamp_min(0)
    x = x ** torch.exp(1.0 * (r[:, 0] - 0.5))
    # A smooth curve that keeps 0 at 0: x + a sin(pi x), for half of the crops, up to an inverted contrast.
    amplitude = torch.where(r[:, 1] < 0.5, 0.0, 1.2 * (r[:, 1] - 0.75) * 2)
    x = (x + amplitude * torch.sin(math.pi * x.clamp(max=1))).clamp_min(0)
    field = F.interpolate(torch.randn((n, 1, 3, 3), generator=g), size=(size, size), mode="bicubic")[:, 0]
    x = x * torch.exp(0.2 * r[:, 2] * field)
    return x * torch.exp(0.6 * (r[:, 3] - 0.6))
