"""Lengths of rays in voxels on the CPU, compiled by numba (Siddon, Med. Phys. 1985); nothing is stored.

Imported only where cone beams act: numba comes with the extra `ct`.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
_compiled = import_module("numba").njit(nogil=True, cache=True)


def project(volumes: Tensor, frames: Array, voxel: Array, cell: Array, detector: tuple[int, int]) -> Tensor:
    """Integrals along all rays: (n, X, Y, Z) -> (n, views, rows, columns).

    Args:
        volumes: about the origin.
        frames: source, middle of the detector, directions along its rows (of its columns) and columns, (4, views, 3).
        voxel: size along each axis, (3,).
        cell: height and width.
        detector: rows and columns.
    """
    views = frames.shape[1]
    y = torch.zeros((len(volumes), views, *detector), dtype=volumes.dtype)
    _threads(_project, views, volumes.detach().contiguous().numpy(), y.numpy(), frames, voxel, cell)
    return y


def back_project(y: Tensor, frames: Array, voxel: Array, cell: Array, sizes: tuple[int, int, int]) -> Tensor:
    """The exact transpose: (n, views, rows, columns) -> (n, X, Y, Z)."""
    x = torch.zeros((len(y), *sizes), dtype=y.dtype)
    _threads(_back_project, sizes[0], x.numpy(), y.detach().contiguous().numpy(), frames, voxel, cell)
    return x


def _threads(kernel: Any, parts: int, *arguments: Array) -> None:  # noqa: ANN401 - compiled
    """Each thread has views, or slabs of the volume, of its own: the same numbers however many there are."""
    count = min(torch.get_num_threads(), parts)
    bounds = np.linspace(0, parts, count + 1).astype(int)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda i: kernel(*arguments, bounds[i], bounds[i + 1]), range(count)))


def _project_views(x: Array, y: Array, frames: Array, voxel: Array, cell: Array, first: int, last: int) -> None:
    for n in range(x.shape[0]):
        for view in range(first, last):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    ray = _ray(frames, view, i - (y.shape[2] - 1) / 2, j - (y.shape[3] - 1) / 2, cell)
                    y[n, view, i, j] = _trace(x[n], 0.0, False, frames[0, view], ray, voxel, 0, x.shape[1])


def _back_project_slab(x: Array, y: Array, frames: Array, voxel: Array, cell: Array, first: int, last: int) -> None:
    for n in range(x.shape[0]):
        for view in range(y.shape[1]):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    ray = _ray(frames, view, i - (y.shape[2] - 1) / 2, j - (y.shape[3] - 1) / 2, cell)
                    _trace(x[n], y[n, view, i, j], True, frames[0, view], ray, voxel, first, last)


def _source_to_cell(frames: Array, view: int, row: float, column: float, cell: Array) -> tuple[float, float, float]:
    """From the source to a cell that lies so many rows and columns from the middle of the detector."""
    up, right = row * cell[0], column * cell[1]
    return (
        frames[1, view, 0] + right * frames[2, view, 0] + up * frames[3, view, 0] - frames[0, view, 0],
        frames[1, view, 1] + right * frames[2, view, 1] + up * frames[3, view, 1] - frames[0, view, 1],
        frames[1, view, 2] + right * frames[2, view, 2] + up * frames[3, view, 2] - frames[0, view, 2],
    )


def _crossing(s: float, d: float, middle: float, size: float, plane: int) -> float:
    """Share of the ray up to a plane of the grid; always computed anew, so that slabs see the same numbers."""
    return ((plane - middle) * size - s) / d if d != 0 else math.inf


def _enter(s: float, d: float, n: int, size: float, first: int, last: int, t: float) -> int:
    """Index of the voxel behind share `t` of the ray, between `first` and `last`, along one axis."""
    middle = n / 2
    i = min(max(int((s + t * d) / size + middle), first), last - 1)
    if d > 0:  # rounding may have put the ray one voxel too far or too near
        while i < last - 1 and _plane(s, d, middle, size, i + 1) <= t:
            i += 1
        while i > first and _plane(s, d, middle, size, i) > t:
            i -= 1
    elif d < 0:
        while i > first and _plane(s, d, middle, size, i) <= t:
            i -= 1
        while i < last - 1 and _plane(s, d, middle, size, i + 1) > t:
            i += 1
    return i


def _clip(s: float, d: float, n: int, size: float, first: int, last: int) -> tuple[float, float]:
    """Shares of the ray where it enters and leaves the slab from plane `first` to plane `last`."""
    a, b = _plane(s, d, n / 2, size, first), _plane(s, d, n / 2, size, last)
    if d == 0:
        inside = (first - n / 2) * size <= s < (last - n / 2) * size
        return (0.0, 1.0) if inside else (1.0, 0.0)
    return (a, b) if a < b else (b, a)


def _trace_ray(
    x: Array, value: float, scatter: bool, s: Array, d: tuple[float, float, float], voxel: Array, first: int, last: int
) -> float:
    """Walk from voxel to voxel, X between `first` and `last`: sum up what is there times length, or add to it."""
    X, Y, Z = x.shape
    a0, b0 = _interval(s[0], d[0], X, voxel[0], first, last)
    a1, b1 = _interval(s[1], d[1], Y, voxel[1], 0, Y)
    a2, b2 = _interval(s[2], d[2], Z, voxel[2], 0, Z)
    t, end = max(a0, a1, a2, 0.0), min(b0, b1, b2, 1.0)
    total = 0.0
    if t >= end:
        return total
    i = _index(s[0], d[0], X, voxel[0], first, last, t)
    j = _index(s[1], d[1], Y, voxel[1], 0, Y, t)
    k = _index(s[2], d[2], Z, voxel[2], 0, Z, t)
    di, dj, dk = (1 if d[0] > 0 else -1), (1 if d[1] > 0 else -1), (1 if d[2] > 0 else -1)
    ti = _plane(s[0], d[0], X / 2, voxel[0], i + (di > 0))
    tj = _plane(s[1], d[1], Y / 2, voxel[1], j + (dj > 0))
    tk = _plane(s[2], d[2], Z / 2, voxel[2], k + (dk > 0))
    length = math.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
    while t < end:
        following = min(ti, tj, tk, end)
        part = (following - t) * length
        if scatter:
            x[i, j, k] += value * part
        else:
            total += x[i, j, k] * part
        if following >= end:
            break
        t = following
        if ti <= t:
            i += di
            ti = _plane(s[0], d[0], X / 2, voxel[0], i + (di > 0))
        if tj <= t:
            j += dj
            tj = _plane(s[1], d[1], Y / 2, voxel[1], j + (dj > 0))
        if tk <= t:
            k += dk
            tk = _plane(s[2], d[2], Z / 2, voxel[2], k + (dk > 0))
        if i < first or i >= last or j < 0 or j >= Y or k < 0 or k >= Z:
            break
    return total


_plane = _compiled(_crossing)
_index = _compiled(_enter)
_interval = _compiled(_clip)
_ray = _compiled(_source_to_cell)
_trace = _compiled(_trace_ray)
_project = _compiled(_project_views)
_back_project = _compiled(_back_project_slab)
