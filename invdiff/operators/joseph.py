"""Line integrals through an image as an explicit sparse matrix (Joseph, IEEE Trans. Med. Imaging 1982)."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from invdiff import cache
from invdiff.operators.sparse import csr, csr_tensor

VERSION = 1  # of the numbers: to be raised when the same rays get other entries
SLOW = 1.0  # seconds of building above which a matrix is kept on disk
BLOCK = 128  # rays that are built at once: as many as stay in a core's cache

Floats = NDArray[np.float64]
# Operators of the same geometry share their matrices for as long as one of them lives.
_shared: WeakValueDictionary[str, Tensor] = WeakValueDictionary()


@dataclass(frozen=True)
class Rays:
    """Lines column * cos - row * sin = t, with rows and columns counted in pixels from (H // 2, W // 2).

    Attributes:
        cos: (views, detectors).
        sin: likewise.
        t: signed distance from the axis in pixels, likewise.
    """

    cos: Floats
    sin: Floats
    t: Floats

    def __getitem__(self, views: slice) -> Rays:
        """The rays of some views."""
        return Rays(self.cos[views], self.sin[views], self.t[views])


def matrices(H: int, W: int, rays: Rays, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The system matrix, (rays, H * W), and its transpose as CSR tensors: from memory, from disk, or built."""
    key = _key(H, W, rays, dtype)
    A, T = _shared.get(key), _shared.get(key + "T")
    if A is None or T is None:
        A, T = _load(key, (rays.t.size, H * W)) or _build(key, H, W, rays, dtype)
        _shared[key], _shared[key + "T"] = A, T
    return A, T


def system_matrix(H: int, W: int, rays: Rays, dtype: torch.dtype) -> sparse.csr_array:
    """The system matrix, computed in float64, with sorted indices.

    A ray steps along the axis that it is nearer to, one pixel at a time, and interpolates linearly across.
    """
    c, s, t = rays.cos.ravel(), rays.sin.ravel(), rays.t.ravel()
    steep = np.abs(c) >= np.abs(s)
    cuts = np.union1d(np.flatnonzero(np.diff(steep)) + 1, np.arange(0, len(t) + BLOCK, BLOCK)).clip(max=len(t))
    number = torch.empty(0, dtype=dtype).numpy().dtype
    blocks = [_block(H, W, c[i:j], s[i:j], t[i:j], number) for i, j in pairwise(cuts) if i < j]
    counts, pixels, values = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    A = sparse.csr_array((values, pixels, starts), shape=(len(counts), H * W))
    A.sort_indices()
    return A


def entries(H: int, W: int, rays: Rays) -> int:
    """About how many entries the matrix of these rays has: two for each step that a ray takes inside the image."""
    c, s, t = rays.cos, rays.sin, rays.t
    steep = np.abs(c) >= np.abs(s)
    slope, inverse = np.where(steep, s, c), np.where(steep, c, s)
    steps, across = np.where(steep, H, W), np.where(steep, W, H)
    start = np.where(steep, t, -t) / inverse
    slope = slope / inverse
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.stack([(b * across / 2 - start) / slope for b in (-1, 1)])
    inside = np.where(slope == 0, np.where(np.abs(start) < across / 2, steps, 0), 0.0)
    low, high = bounds.min(0).clip(-steps / 2, steps / 2), bounds.max(0).clip(-steps / 2, steps / 2)
    return int(2 * np.where(slope == 0, inside, high - low).sum())


def _block(
    H: int, W: int, c: Floats, s: Floats, t: Floats, number: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Entries of rays that step along the same axis, ray by ray: how many of each ray, then their pixels and values."""
    c, s, t = c[:, None], s[:, None], t[:, None]
    position: NDArray[np.floating]
    if abs(c[0]) >= abs(s[0]):  # step from row to row: column = (t + row sin) / cos
        steps, across, stride_step, stride_across, length = H, W, W, 1, 1 / np.abs(c)
        position = (t + (np.arange(H) - H // 2) * s) / c + W // 2
    else:  # step from column to column: row = (column cos - t) / sin
        steps, across, stride_step, stride_across, length = W, H, 1, W, 1 / np.abs(s)
        position = ((np.arange(W) - W // 2) * c - t) / s + H // 2
    low = np.floor(position)
    value = np.stack([(1 - (position - low)) * length, (1 - (low + 1 - position)) * length], axis=-1)
    cell = low.astype(np.int32)[..., None] + np.arange(2, dtype=np.int32)  # (rays, steps, 2)
    inside = (cell >= 0) & (cell < across) & (value > 0)
    pixel = np.arange(steps, dtype=np.int32)[:, None] * np.int32(stride_step) + cell * np.int32(stride_across)
    return inside.sum(axis=(1, 2)), pixel[inside], value.astype(number)[inside]


def _build(key: str, H: int, W: int, rays: Rays, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    start = time.monotonic()
    A = system_matrix(H, W, rays, dtype)
    pair = csr(A, dtype), csr(A.T.tocsr(), dtype)
    if time.monotonic() - start > SLOW:
        parts = {name + part: array for name, M in zip("AT", pair, strict=True) for part, array in _parts(M).items()}
        cache.store(key, parts)
    return pair


def _load(key: str, shape: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
    arrays = cache.load(key)
    if arrays is None or set(arrays) != {name + part for name in "AT" for part in _PARTS}:
        return None
    A, T = ([torch.from_numpy(arrays[name + part]) for part in _PARTS] for name in "AT")
    return csr_tensor(A[0], A[1], A[2], shape), csr_tensor(T[0], T[1], T[2], shape[::-1])


_PARTS = ("starts", "cells", "values")


def _parts(M: Tensor) -> dict[str, NDArray[Any]]:
    tensors = (M.crow_indices(), M.col_indices(), M.values())
    return {name: part.numpy() for name, part in zip(_PARTS, tensors, strict=True)}


def _key(H: int, W: int, rays: Rays, dtype: torch.dtype) -> str:
    digest = hashlib.blake2b(f"joseph {VERSION} {H} {W} {rays.t.shape} {dtype}".encode(), digest_size=16)
    for part in (rays.cos, rays.sin, rays.t):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
