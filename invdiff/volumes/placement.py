"""The place of a volume in its NIfTI header: sform, qform, voxel sizes and codes, read and moved field by field."""

from __future__ import annotations

from typing import Any, TypeAlias

import nibabel
import numpy as np

from invdiff.errors import GeometryError
from invdiff.volumes.geometry import Affine, check_affine, spacing

Header: TypeAlias = Any  # nibabel's Nifti1Header or Nifti2Header: they carry no annotations
_nib: Any = nibabel


def stored_affine(header: Header) -> Affine:
    """Voxel index to mm, (4, 4): the sform if its code is set, else the qform, else nibabel's guess (centred, LAS).

    Units of metres and micrometres (xyzt_units) are turned into mm; unknown units are taken for mm.

    Raises:
        GeometryError: the header does not describe a place, see `check_affine`.
    """
    try:
        affine = readable(header).get_best_affine()
    except ValueError as e:  # nibabel's word for quaternions that are none
        raise GeometryError(f"the qform is damaged ({e}); correct it or set an sform") from e
    return np.diag([*[_unit(header)] * 3, 1.0]) @ check_affine(affine)


def readable(header: Header) -> Header:
    """A copy for computing: qfac other than -1 counts as 1 (NIfTI), voxel sizes below 0 as positive, 0 as 1."""
    good = header.copy()
    good["pixdim"][0] = -1 if header["pixdim"][0] == -1 else 1
    good["pixdim"][1:4] = [abs(size) or 1 for size in header["pixdim"][1:4]]
    return good


def place(header: Header, affine: Affine, shape: tuple[int, ...]) -> bool:
    """Make `header` say that voxels of `shape` (X, Y, Z) lie at `affine` (mm); untouched where it says so already.

    A crop, flip or permutation moves sform and qform each by the same voxels, so both keep their meaning. Without any
    code the sform gets code 2 (aligned): the fallback would guess another place for the new shape. An affine that is
    no such move goes to the sform, and the qform, which cannot hold every affine, loses its code.

    Returns: whether anything changed.
    """
    old_shape = tuple(header["dim"][1:4].tolist())
    move = _voxel_move(stored_affine(header), affine)
    if move is not None and np.array_equal(move, np.eye(4)) and shape == old_shape:
        return False
    coded = bool(header["sform_code"] or header["qform_code"])
    if move is not None and coded:
        _set_sform(header, header.get_sform() @ move, header["sform_code"])
    else:
        _set_sform(header, np.diag([*[1 / _unit(header)] * 3, 1.0]) @ affine, header["sform_code"] or 2)
    if move is not None:
        _move_qform(header, move)
        _move_axes(header, move, shape, old_shape)
    else:
        header["qform_code"] = header["dim_info"] = 0
        header["pixdim"][1:4] = np.array(spacing(affine)) / _unit(header)
        _forget_slice_order(header)
    return True


def _voxel_move(old: Affine, new: Affine) -> Affine | None:
    """Index on the new grid -> index on the old one if that is a shift, flip or permutation of voxels, else None."""
    exact = np.linalg.solve(old, new)
    move = np.rint(exact) + 0.0  # no negative zeros
    turn = move[:3, :3]
    return move if np.abs(exact - move).max() < 1e-6 and np.array_equal(turn @ turn.T, np.eye(3)) else None


def _unit(header: Header) -> float:
    return {1: 1e3, 3: 1e-3}.get(int(header["xyzt_units"]) & 7, 1.0)  # metres, micrometres; else mm


def _set_sform(header: Header, affine: Affine, code: object) -> None:
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["sform_code"] = code


def _move_qform(header: Header, move: Affine) -> None:
    """Move the qform if its code is set; one that is damaged (the sform is the place then) loses its code."""
    sizes = header["pixdim"][1:4].copy()
    try:
        qform = readable(header).get_qform() @ move if header["qform_code"] else None
    except ValueError:
        qform = None
        header["qform_code"] = 0
    if qform is not None:
        if not np.array_equal(move[:3, :3], np.eye(3)):
            header.set_qform(qform)
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = qform[:3, 3]
    header["pixdim"][1:4] = sizes[np.abs(move[:3, :3]).argmax(axis=0)]


def _move_axes(header: Header, move: Affine, shape: tuple[int, ...], old_shape: tuple[int, ...]) -> None:
    """Permute dim_info; forget the slice order when the slice axis was cut or flipped."""
    to_new = np.abs(move[:3, :3]).argmax(axis=1).tolist()
    info = header.get_dim_info()  # axes of frequency, phase and slice, None where unknown
    if (old := info[2]) is not None:
        new = to_new[old]
        if move[old, 3] != 0 or shape[new] != old_shape[old]:
            _forget_slice_order(header)
    header.set_dim_info(*(None if axis is None else to_new[axis] for axis in info))


def _forget_slice_order(header: Header) -> None:
    header["slice_code"] = header["slice_start"] = header["slice_end"] = 0
