"""Filtered back-projection: the ramp filter, weights of views and rays, and back-projection by interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from invdiff.errors import ConfigError

Window = Literal["ramp", "shepp-logan", "hann"]
Floats = NDArray[np.float64]
# (views,) -> where each pixel is seen, in cells, and its weight: (views, pixels) each.
Look = Callable[[Tensor], tuple[Tensor, Tensor]]
# view, (points, 3) -> where they are seen, in rows and columns, and their weight.
Look3 = Callable[[int, Tensor], tuple[Tensor, Tensor, Tensor]]
ENTRIES = 2**22  # of an interpolation matrix that is built at once


def ramp(p: Tensor, pitch: float, window: Window = "ramp") -> Tensor:
    """Convolve projections with the band-limited ramp along their last axis, zero outside.

    Args:
        p: projections, (..., detectors).
        pitch: distance of the cells.
        window: what damps high frequencies: nothing, a sinc, or a Hann window that ends at 0.

    Source: Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), eq. 3.61: sampled in space, so that
    the mean of the image is kept, which the sampled |f| would lower.
    """
    check_window(window)
    n = p.shape[-1]
    length = next_fast_len(2 * n, real=True)
    distance = torch.arange(length, dtype=torch.float64)
    distance = torch.minimum(distance, length - distance)
    kernel = torch.where(distance % 2 == 1, -1 / (math.pi * distance.clamp_min(1)) ** 2, 0.0)
    kernel[0] = 0.25
    f = torch.arange(length // 2 + 1, dtype=torch.float64) / length  # in cycles per cell, up to 1/2
    damping = {"ramp": torch.ones_like(f), "shepp-logan": torch.sinc(f), "hann": torch.cos(math.pi * f) ** 2}[window]
    response = (torch.fft.rfft(kernel).real * damping / pitch).to(p)
    return torch.fft.irfft(torch.fft.rfft(p, length) * response, length)[..., :n]


def check_window(window: str) -> None:
    """ConfigError for a window that there is not."""
    if window not in ("ramp", "shepp-logan", "hann"):
        raise ConfigError(f"no filter {window!r}; there are: ramp, shepp-logan, hann")


def quadrature(angles: Floats, period: float) -> tuple[Floats, float, float]:
    """How much of the circle each view stands for: half the way to its neighbours.

    Args:
        angles: of the views, in any order, in radians.
        period: of the circle: pi where opposite views are the same, else 2 pi.

    Returns:
        Weights (views,), and the arc that they cover: where it starts, its length. A gap above four mean steps is no
        part of it: a limited angle, a short scan.
    """
    turned = angles % period
    order = np.argsort(turned, kind="stable")
    gaps = np.diff(turned[order], append=turned[order[0]] + period)  # behind each view
    missing = gaps > 4 * period / len(gaps)
    if missing.any() and not missing.all():
        step = float(gaps[~missing].mean())
        first = order[(int(gaps.argmax()) + 1) % len(order)]
        start, arc = float(turned[first]) - step / 2, period - float((gaps[missing] - step).sum())
        gaps = np.where(missing, step, gaps)
    else:
        start, arc = float(turned[order[0]]), period
    weights = np.empty_like(gaps)
    weights[order] = (gaps + np.roll(gaps, 1)) / 2
    return weights, start, arc


def fan_weights(angles: Floats, gamma: Floats, side: Floats) -> Floats:
    """Weights of rays, (views, detectors), of which some were measured twice: two views of a line add up to one.

    A line that is seen at angle beta under gamma is seen again at beta + 2 gamma + pi under -gamma.

    Args:
        angles: of the views, (views,).
        gamma: angle between ray and central ray, (detectors,).
        side: 1 for a detector that sees both sides, else what `one_side` gives, (2, detectors): of each ray, and of
            its second view.

    Source: Noo, Defrise, Clackdoyle and Kudo (2002), Phys. Med. Biol. 47, eqs. 24 to 26, which extend the smooth
    weights of Parker (1982) to scans of any length; for detectors off the centre after Wang (2002), Med. Phys. 29.
    """
    steps, start, arc = quadrature(angles, 2 * math.pi)
    here = _taper(angles - start, arc)[:, None] * side[0]
    there = _taper(angles[:, None] + 2 * gamma + math.pi - start, arc) * side[1]
    return steps[:, None] * here / np.maximum(here + there, 1e-12)


def one_side(u: Floats, needed: float) -> Floats:
    """Smooth weights of a detector off the centre, (2, cells): m(u), and m(-u) of the same line's second view.

    Args:
        u: positions of the cells, rising.
        needed: position up to which the image is seen.

    m is 1 for a detector that sees the whole image, or is centred; else it falls to 0 on the shorter side, over all
    that both sides see.
    """
    short, missing = min(-float(u[0]), float(u[-1])), missing_cells(u, needed)
    if not any(missing):
        return np.ones((2, len(u)))
    if short <= 0:  # no line is seen twice
        return np.stack([np.ones(len(u)), np.zeros(len(u))])
    sign = 1.0 if missing[0] else -1.0
    rise = np.clip(np.stack([u, -u]) * sign / short, -1, 1)
    return np.sin(math.pi / 4 * (1 + rise)) ** 2


def missing_cells(u: Floats, needed: float) -> tuple[int, int]:
    """Cells that a detector off the centre lacks on its left and on its right; none where it sees all, or is centred.

    What is filtered reaches beyond the detector, so projections are continued by as many zeros first.
    """
    left, right = -float(u[0]), float(u[-1])
    pitch = float(u[1] - u[0]) if len(u) > 1 else 1.0
    if min(left, right) >= needed or abs(left - right) <= 2.5 * pitch:
        return 0, 0
    cells = math.ceil(abs(left - right) / pitch)
    return (cells, 0) if left < right else (0, cells)


def back_project(q: Tensor, pixels: int, look: Look) -> Tensor:
    """Sum over views of what each pixel sees, interpolated linearly between cells, and 0 beyond them.

    Args:
        q: (B, C, views, detectors).
        pixels: how many.
        look: where.

    Returns:
        (B, C, pixels).
    """
    B, C, V, D = q.shape
    step = max(1, ENTRIES // (2 * pixels))
    total = q.new_zeros(pixels, B * C)
    for views in torch.arange(V, device=q.device).split(step):
        position, weight = (a.T for a in look(views))  # (pixels, views)
        low = position.floor().clamp(0, max(D - 2, 0))
        part = position - low
        weight = torch.where((position >= 0) & (position <= D - 1), weight, 0.0)
        first = low.int() + D * torch.arange(len(views), device=q.device, dtype=torch.int32)
        index = torch.stack([first, first + min(1, D - 1)], dim=2).flatten(1)
        values = torch.stack([weight * (1 - part), weight * part], dim=2).flatten(1).to(q.dtype)
        X = q[:, :, views].flatten(2).flatten(0, 1).T.contiguous()
        total = total + F.embedding_bag(index, X, mode="sum", per_sample_weights=values)
    return total.T.unflatten(0, (B, C))


def back_project_cone(q: Tensor, voxels: Tensor, look: Look3) -> Tensor:
    """The same in three dimensions: bilinear between cells, 0 beyond the columns, the last row beyond the rows.

    Args:
        q: (B, C, views, rows, columns).
        voxels: their positions, (n, 3).
        look: view, positions -> where they are seen, in rows and in columns, and their weight.

    Returns:
        (B, C, n).
    """
    B, C, V, M, N = q.shape
    pictures = q.flatten(0, 1)
    parts = []
    for points in voxels.split(ENTRIES // 4):
        total = q.new_zeros(B * C, len(points))
        for view in range(V):
            row, column, weight = look(view, points)
            weight = torch.where((column >= 0) & (column <= N - 1), weight, 0.0)
            where = torch.stack([2 * column / max(N - 1, 1) - 1, 2 * row / max(M - 1, 1) - 1], dim=-1)
            seen = F.grid_sample(pictures[None, :, view], where[None, None], padding_mode="border", align_corners=True)
            total = total + weight * seen[0, :, 0]
        parts.append(total)
    return torch.cat(parts, dim=1).unflatten(0, (B, C))


def _taper(beta: Floats, arc: float) -> Floats:
    """1 inside the arc, 0 outside, falling smoothly over 10 degrees at its ends; 1 everywhere on a full circle."""
    if arc > 2 * math.pi - 1e-6:
        return np.ones_like(beta)
    width = min(math.radians(10), arc / 4)
    beta = beta % (2 * math.pi)
    edge = np.clip(np.minimum(beta, arc - beta) / width, 0, 1)
    return np.sin(math.pi / 2 * edge) ** 2
