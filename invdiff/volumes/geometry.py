"""Where voxels lie: affines from voxel index to millimetres (RAS+), how crops and reorientations move them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import nibabel
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from invdiff.errors import GeometryError, ShapeError

Affine: TypeAlias = NDArray[np.float64]
_nib: Any = nibabel


def check_affine(affine: ArrayLike) -> Affine:
    """A copy of `affine` as (4, 4) float64.

    Raises:
        GeometryError: another shape, NaN or infinite numbers, a last row other than 0 0 0 1, or axes that do not
            span space (singular).
    """
    a = np.array(affine, dtype=np.float64)
    if a.shape != (4, 4) or not np.isfinite(a).all() or a[3].tolist() != [0, 0, 0, 1]:
        raise GeometryError(
            f"the affine is no finite 4x4 matrix with last row 0 0 0 1: {a.tolist()}; correct the header"
        )
    lengths = np.linalg.norm(a[:3, :3], axis=0)
    if not lengths.all() or abs(np.linalg.det(a[:3, :3] / lengths)) < 1e-6:
        raise GeometryError(f"the affine is singular: {a[:3, :3].tolist()}; correct sform or qform in the header")
    return a


def spacing(affine: Affine) -> tuple[float, float, float]:
    """Voxel size along each stored axis in mm."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return x, y, z


def orientation(affine: Affine) -> str:
    """Where each stored axis points to, nearest of Right/Left, Anterior/Posterior, Superior/Inferior: e.g. "RAS"."""
    return "".join(_nib.aff2axcodes(affine))


def crop(data: Tensor, affine: Affine, start: Sequence[int], shape: Sequence[int]) -> tuple[Tensor, Affine]:
    """The block of `shape` (3,) voxels from voxel `start` (3,) of data (C, X, Y, Z), and its affine.

    Raises:
        ShapeError: the block is empty or reaches outside.
    """
    axes = list(zip(start, shape, data.shape[1:], strict=True))
    if any(a < 0 or n < 1 or a + n > size for a, n, size in axes):
        raise ShapeError(f"a crop of {tuple(shape)} voxels from {tuple(start)} does not fit in {tuple(data.shape[1:])}")
    moved = affine.copy()
    moved[:, 3] = affine @ [*start, 1]
    x, y, z = (slice(a, a + n) for a, n, _ in axes)
    return data[:, x, y, z].contiguous(), moved


def canonical(data: Tensor, affine: Affine) -> tuple[Tensor, Affine]:
    """Data (C, X, Y, Z) and affine with axes flipped and permuted, nothing interpolated, until closest to RAS+."""
    ornt = _nib.io_orientation(affine)
    move: Affine = _nib.orientations.inv_ornt_aff(ornt, data.shape[1:])
    flipped = data.flip([axis + 1 for axis in range(3) if ornt[axis, 1] < 0])
    return flipped.permute(0, *(int(a) + 1 for a in np.argsort(ornt[:, 0]))).contiguous(), affine @ move
