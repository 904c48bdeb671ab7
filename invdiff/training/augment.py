"""What happens to a crop on its way to the network: cut or warped, turned, its contrast and its phase changed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def cut(image: Tensor, size: int, g: Generator) -> Tensor:
    """A random square of `size` pixels, (C, H, W) -> (C, size, size); a smaller image is centred in zeros."""
    h, w = image.shape[-2:]
    if h < size or w < size:
        top, left = max(0, size - h) // 2, max(0, size - w) // 2
        image = F.pad(image, (left, max(0, size - w - left), top, max(0, size - h - top)))
        h, w = image.shape[-2:]
    i = int(torch.randint(h - size + 1, (), generator=g))
    j = int(torch.randint(w - size + 1, (), generator=g))
    return image[:, i : i + size, j : j + size]


def warp(image: Tensor, size: int, g: Generator, mode: str = "bicubic") -> Tensor:
    """A crop through a random affine map and a smooth elastic displacement, (C, H, W) -> (C, size, size)."""
    h, w = image.shape[-2:]
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
    return F.grid_sample(image[None], points.flip(-1)[None].float(), mode, "zeros", align_corners=False)[0]


def turn(crop: Tensor, g: Generator) -> Tensor:
    """One of the eight flips and right-angle turns of a square, (C, S, S)."""
    turns = int(torch.randint(8, (), generator=g))
    crop = torch.rot90(crop, turns % 4, dims=(-2, -1))
    return crop.flip(-2) if turns >= 4 else crop


def contrast(crops: Tensor, g: Generator) -> Tensor:
    """Random gamma, curve, bias field and scale, (n, 1, S, S): other sequences and coils than were seen."""
    n, size = len(crops), crops.shape[-1]
    r = torch.rand((4, n, 1, 1, 1), generator=g)
    x = crops.clamp_min(0)
    x = x ** torch.exp(1.0 * (r[0] - 0.5))
    # A smooth curve that keeps 0 at 0: x + a sin(pi x), for half of the crops, up to an inverted contrast.
    amplitude = torch.where(r[1] < 0.5, 0.0, 1.2 * (r[1] - 0.75) * 2)
    x = (x + amplitude * torch.sin(math.pi * x.clamp(max=1))).clamp_min(0)
    x = x * torch.exp(0.2 * r[2] * smooth(n, size, 3, g))
    return x * torch.exp(0.6 * (r[3] - 0.6))


def phase(crops: Tensor, g: Generator) -> Tensor:
    """A smooth random phase for magnitudes (n, 1, S, S): real and imaginary parts, (n, 2, S, S).

    Any constant phase, and a field of up to 1.5 rad (standard deviation) that varies over a quarter of the crop.
    """
    n, size = len(crops), crops.shape[-1]
    r = torch.rand((2, n, 1, 1, 1), generator=g)
    angle = 2 * math.pi * r[0] + 1.5 * r[1] * smooth(n, size, 4, g)
    return torch.cat([crops * angle.cos(), crops * angle.sin()], dim=1)


def smooth(n: int, size: int, knots: int, g: Generator) -> Tensor:
    """Smooth random fields of about unit variance, (n, 1, size, size), bicubic between knots x knots normal numbers."""
    field = torch.randn((n, 1, knots, knots), generator=g)
    return F.interpolate(field, size=(size, size), mode="bicubic")
