"""Filters along an axis as banded matrices, in blocks small enough for the cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 16  # rows of a block: half or twice of it are as fast


@dataclass(frozen=True, eq=False)
class Block:
    """Rows `kept` of a banded matrix, whose entries outside of the columns `read` are zero."""

    kept: slice
    read: slice
    entries: Floats


def blocks(matrix: Floats, reach: int) -> list[Block]:
    """A square matrix, with nothing further than `reach` from its diagonal, in blocks of rows."""
    out = []
    for start in range(0, len(matrix), BLOCK):
        kept = slice(start, min(start + BLOCK, len(matrix)))
        read = slice(max(start - reach, 0), min(kept.stop + reach, len(matrix)))
        out.append(Block(kept, read, np.ascontiguousarray(matrix[kept, read])))
    return out


def along_rows(bands: list[Block], images: Floats) -> Floats:
    """The filter along the second last axis of images (..., Y, Z)."""
    out = np.empty(images.shape)
    for b in bands:
        np.matmul(b.entries, images[..., b.read, :], out=out[..., b.kept, :])
    return out


def along_columns(bands: list[Block], images: Floats) -> Floats:
    """The filter along the last axis of images (..., Y, Z)."""
    out = np.empty(images.shape)
    for b in bands:
        np.matmul(images[..., b.read], b.entries.T, out=out[..., b.kept])
    return out
