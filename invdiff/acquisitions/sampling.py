"""Where k-space is measured: masks of phase-encoding lines (2-D scans) and of ky-kz points (3-D scans).

Every mask is boolean with DC at index 0 and has a calibration region around DC that is fully measured. Its budget is
exact: round(n / acceleration) of the n lines or points. Partial Fourier sampling leaves out lines at the most negative
ky and does not change the budget; only where fewer lines are left than the budget, all that are left are measured.
Then the acceleration is 1 / partial_fourier, whatever was asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.acquisitions.base import uniform

Shape = Sequence[int]


def random_lines(
    n: int, acceleration: float, center_fraction: float, seed: int, *, partial_fourier: float = 1.0
) -> Tensor:
    """Lines at random, each as likely as any other.

    Args:
        n: lines of a full scan.
        acceleration: n divided by the lines measured, >= 1.
        center_fraction: lines of the calibration region divided by n, in (0, 1]; at least one line.
        seed: of the draw.
        partial_fourier: lines that may be measured divided by n, in [0.5, 1].

    Returns:
        (n,), boolean.
    """
    mask, rest, missing = _plan((n,), acceleration, center_fraction, partial_fourier)
    return _with(mask, rest[torch.argsort(uniform(seed, "lines", (len(rest),)))[:missing]])


def equispaced_lines(
    n: int, acceleration: float, center_fraction: float, seed: int, *, partial_fourier: float = 1.0
) -> Tensor:
    """Lines at equal distances, as near as whole lines allow, from a random first one; arguments as `random_lines`."""
    mask, rest, missing = _plan((n,), acceleration, center_fraction, partial_fourier)
    offset = float(uniform(seed, "lines", ())) if missing else 0.0
    return _with(mask, rest[((torch.arange(missing) + offset) * len(rest) / max(missing, 1)).long()])


def gaussian_lines(
    n: int,
    acceleration: float,
    center_fraction: float,
    seed: int,
    *,
    partial_fourier: float = 1.0,
    width: float = 0.2,
) -> Tensor:
    """Lines at random, drawn one after the other with odds of exp(-d^2 / (2 (width n)^2)) at distance d from DC.

    Arguments as `random_lines`; width: standard deviation as a fraction of n, > 0.
    """
    mask, rest, missing = _plan((n,), acceleration, center_fraction, partial_fourier)
    return _with(mask, _draw(rest, (n,), missing, width, uniform(seed, "lines", (len(rest),))))


def random_points(
    shape: Shape, acceleration: float, center_fraction: float, seed: int, *, partial_fourier: float = 1.0
) -> Tensor:
    """Points of the ky-kz plane at random, each as likely as any other.

    Args:
        shape: (ky, kz) of a full scan.
        acceleration: all points divided by those measured, >= 1.
        center_fraction: side of the calibration region divided by that of the plane, along each axis, in (0, 1]; of a
            region larger than the budget its innermost points are measured.
        seed: of the draw.
        partial_fourier: ky that may be measured divided by all ky, in [0.5, 1].

    Returns:
        (ky, kz), boolean.
    """
    mask, rest, missing = _plan(shape, acceleration, center_fraction, partial_fourier)
    return _with(mask, rest[torch.argsort(uniform(seed, "points", (len(rest),)))[:missing]])


def gaussian_points(
    shape: Shape,
    acceleration: float,
    center_fraction: float,
    seed: int,
    *,
    partial_fourier: float = 1.0,
    width: float = 0.2,
) -> Tensor:
    """Points at random with a Gaussian density, as `gaussian_lines`; arguments as `random_points`."""
    mask, rest, missing = _plan(shape, acceleration, center_fraction, partial_fourier)
    return _with(mask, _draw(rest, shape, missing, width, uniform(seed, "points", (len(rest),))))


def poisson_points(
    shape: Shape,
    acceleration: float,
    center_fraction: float,
    seed: int,
    *,
    partial_fourier: float = 1.0,
    growth: float = 0.0,
) -> Tensor:
    """Points at random that keep a distance from each other: a Poisson disc (Cook, ACM ToG 1986; Vasanawala 2011).

    Darts are thrown in a random order, first with a large disc, then with smaller and smaller ones until the budget is
    met, so that points lie as evenly as the budget lets them. Points of the calibration region have no disc.

    Arguments as `random_points`; growth: by how much the disc grows from DC to the edge, >= 0, e.g. 1: twice the
    distance, a quarter of the density.
    """
    mask, rest, missing = _plan(shape, acceleration, center_fraction, partial_fourier)
    if not missing:
        return mask
    free = torch.zeros(mask.numel(), dtype=torch.bool)
    free[rest] = True
    centred_free, centred_order = (
        torch.fft.fftshift(t.reshape(tuple(shape))).numpy() for t in (free, uniform(seed, "points", (mask.numel(),)))
    )
    axes = [(np.arange(n) - n // 2) / (n / 2) for n in shape]
    relative = 1 + growth * np.minimum(1, np.hypot(*np.meshgrid(*axes, indexing="ij")))
    chosen = _poisson_disc(centred_free, centred_order, relative, missing)
    return mask | torch.fft.ifftshift(torch.from_numpy(chosen))


def _plan(
    shape: Shape, acceleration: float, center_fraction: float, partial_fourier: float
) -> tuple[Tensor, Tensor, int]:
    """The calibration region, the flat indices of all else that may be measured, and how much of it is to be."""
    allowed = torch.zeros(tuple(shape), dtype=torch.bool)
    lowest = min(0, (shape[0] + 1) // 2 - round(partial_fourier * shape[0]))  # DC is never missing
    allowed[_frequency(shape[0]) >= lowest] = True
    budget = min(max(1, round(allowed.numel() / acceleration)), int(allowed.sum()))
    inside, reach = allowed.clone(), torch.zeros(tuple(shape), dtype=torch.float64)
    for axis, n in enumerate(shape):
        along = [-1 if a == axis else 1 for a in range(len(shape))]
        distance = _frequency(n).abs()
        block = torch.zeros(n, dtype=torch.bool)
        block[torch.argsort(distance, stable=True)[: max(1, round(center_fraction * n))]] = True
        inside &= block.reshape(along)
        reach = torch.maximum(reach, distance.reshape(along) / n)
    innermost = torch.argsort(torch.where(inside, reach, math.inf).flatten(), stable=True)
    mask = _with(torch.zeros_like(allowed), innermost[: min(budget, int(inside.sum()))])
    return mask, (allowed & ~mask).flatten().nonzero()[:, 0], budget - int(mask.sum())


def _frequency(n: int) -> Tensor:
    """0, 1, ... and the negative ones after them, (n,)."""
    index = torch.arange(n)
    return torch.where(index < (n + 1) // 2, index, index - n)


def _with(mask: Tensor, picks: Tensor) -> Tensor:
    return mask.flatten().index_fill(0, picks, True).reshape(mask.shape)


def _draw(rest: Tensor, shape: Shape, missing: int, width: float, numbers: Tensor) -> Tensor:
    """`missing` of `rest`, without replacement, by odds; the keys of Efraimidis and Spirakis (2006)."""
    coordinates = torch.unravel_index(rest, tuple(shape))
    square = sum((_frequency(n)[k] / (width * n)) ** 2 for n, k in zip(shape, coordinates, strict=True))
    # The smallest of -log(u) / w win; in logarithms, because w is below the smallest double far outside.
    keys = (-numbers.clamp_min(1e-300).log()).log() + torch.as_tensor(square, dtype=torch.float64) / 2
    return rest[torch.argsort(keys)[:missing]]


def _poisson_disc(
    free: NDArray[np.bool_], order: NDArray[np.float64], relative: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    """`count` of the free points of a plane, thrown in `order`, with discs that shrink in fixed steps."""
    # A plane filled with discs of distance r holds about 0.7 points per r^2; 1.3 times the r of the budget is sparse.
    r = 1.3 * math.sqrt(0.7 * float((free / relative**2).sum()) / count)
    chosen = np.zeros_like(free)
    while (before := int(chosen.sum())) < count:
        added = _fill(chosen, free, order, r * relative) & ~chosen
        surplus = before + int(added.sum()) - count
        if surplus > 0:  # thrown last, so not thrown
            late = np.flatnonzero(added)
            added.flat[late[np.argsort(order.flat[late])[len(late) - surplus :]]] = False
        chosen = chosen | added
        r *= 0.9
    return chosen


def _fill(
    chosen: NDArray[np.bool_], free: NDArray[np.bool_], order: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """`chosen` and all that fits between in dart-throwing order; two points are as far apart as the smaller radius.

    Among the next few thousand darts, all that come before every rival in their disc land at once: what dart throwing
    gives, in a few rounds.
    """
    pad = math.ceil(float(radius.max()))
    free, chosen = np.pad(free & ~chosen, pad), np.pad(chosen, pad)
    order, radius = np.pad(order, pad), np.pad(radius, pad)
    disc = np.stack(np.meshgrid(*[np.arange(-pad, pad + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    distance = np.hypot(disc[:, 0], disc[:, 1])
    near = (distance > 0) & (distance < radius.max())
    step, distance = (disc @ [free.shape[1], 1])[near], distance[near]
    flat_free, flat_order, flat_radius = free.ravel(), order.ravel(), radius.ravel()

    def rivals(points: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        neighbours = points[:, None] + step
        return neighbours, distance < np.minimum(flat_radius[points][:, None], flat_radius[neighbours])

    def land(points: NDArray[np.int64]) -> None:
        neighbours, close = rivals(points)
        flat_free[neighbours[close]] = flat_free[points] = False

    land(np.flatnonzero(chosen))
    while (left := np.flatnonzero(flat_free)).size:
        darts = left[np.argsort(flat_order[left])[:4096]]
        neighbours, close = rivals(darts)
        rival = np.where(close & flat_free[neighbours], flat_order[neighbours], np.inf).min(1, initial=np.inf)
        hits = darts[flat_order[darts] < rival]
        chosen.ravel()[hits] = True
        land(hits)
    inner = slice(pad, -pad)
    return chosen[inner, inner]
