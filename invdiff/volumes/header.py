"""NIfTI headers as bytes: read without repair, moved to another grid, written back with every other field intact."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from torch import Tensor

from invdiff.errors import FileError, GeometryError, ShapeError
from invdiff.volumes.placement import Header, place, stored_affine
from invdiff.volumes.volume import Volume

_SIZES: dict[int, Any] = {348: Nifti1Header, 540: Nifti2Header}  # the first number of a file tells the version
_AXIS_BOUND = {4, 10, 20, 22, 24, 26, 32, 34}  # AFNI, Jim, MiND, CIFTI, frame timing: they describe grid or frames


def header_bytes(volume: Volume) -> bytes:
    """What `save` writes before the first voxel: header and extensions. Keep them as raw bytes, zeros included.

    Raises:
        ShapeError: more voxels along an axis than the NIfTI version of the source can count.
    """
    header, extensions = split(_fresh(volume) if volume.header is None else volume.header)
    frames, *grid = volume.data.shape
    old = dim(header)
    if place(header, volume.affine, tuple(grid)) or frames != math.prod(old[3:]):
        extensions = _keep(extensions, header.endianness, lambda code: code not in _AXIS_BOUND)
    _set_dim(header, (*grid, frames) if volume.series or frames > 1 else tuple(grid))
    header["datatype"], header["bitpix"] = 16, 32
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    header["vox_offset"] = len(header.binaryblock) + len(extensions)
    return bytes(header.binaryblock) + extensions


def from_header_bytes(raw: bytes, data: Tensor) -> Volume:
    """The volume of data (C, X, Y, Z) float32 at the place that `header_bytes` kept; C may differ.

    Raises:
        FileError: bytes that are no NIfTI header.
        GeometryError: a header without a usable place.
        ShapeError: the grid (X, Y, Z) differs from the header's.
    """
    header, _ = split(raw)
    shape = dim(header)
    check_axes(shape)
    if tuple(data.shape[1:]) != shape[:3]:
        raise ShapeError(f"the header is for grid {shape[:3]}, the data have {tuple(data.shape[1:])}")
    return Volume(data, stored_affine(header), bytes(raw), series=len(shape) > 3)


def split(raw: bytes) -> tuple[Header, bytes]:
    """The header, unchecked and unrepaired, and the bytes between it and the first voxel."""
    sizes = {struct.unpack(order + "i", raw[:4])[0]: order for order in "<>" if len(raw) >= 4}
    size = next((n for n in sizes if n in _SIZES), 0)
    magic = raw[344:348] if size == 348 else raw[4:8]
    if size and len(raw) < size + 4:
        raise FileError(f"the header is truncated ({len(raw)} bytes); copy or download the file again")
    if size and magic in (b"ni1\0", b"ni2\0"):
        raise FileError("is the header of a .hdr/.img pair; convert the pair to one .nii.gz file")
    if not size or magic not in (b"n+1\0", b"n+2\0"):
        found = f"begins with {raw[:8]!r}" if raw else "is empty, 0 bytes"
        raise FileError(f"is not a NIfTI file (it {found}); give a .nii or .nii.gz file")
    header = _SIZES[size](raw[:size], endianness=sizes[size], check=False)
    offset = float(header["vox_offset"])
    if not size + 4 <= offset or offset % 1:
        raise FileError(
            f"the header is damaged: voxels cannot begin at byte {offset:g}; copy or convert the file again"
        )
    if offset > len(raw):
        raise FileError(
            f"{len(raw)} bytes, voxels should begin at {offset:g}: the file is truncated; copy or download it again"
        )
    return header, raw[size : int(offset)]


def dim(header: Header) -> tuple[int, ...]:
    """Voxels along each stored axis, as many as the header counts."""
    return tuple(header["dim"][1 : int(header["dim"][0]) + 1].tolist())


def _set_dim(header: Header, shape: tuple[int, ...]) -> None:
    if shape == dim(header):
        return
    limit = np.iinfo(header["dim"].dtype).max
    if max(shape) > limit:
        raise ShapeError(f"{max(shape)} voxels along an axis; this NIfTI version counts to {limit}, split the volume")
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]


def check_axes(shape: tuple[int, ...]) -> None:
    """Raise GeometryError for what is empty, or neither 3-D nor 4-D."""
    found = " x ".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise GeometryError(f"the volume is empty ({found or 'no axes'}); nothing can be reconstructed from it")
    if len(shape) < 3:
        raise GeometryError(f"{len(shape)} axes ({found}), a volume needs 3; store a single slice as {found} x 1")
    if max(shape[4:], default=1) > 1:
        raise GeometryError(f"{len(shape)} axes ({found}), at most 4 are read (X, Y, Z, frame); split the file first")


def _fresh(volume: Volume) -> bytes:
    """A NIfTI header for a volume that comes from no file: mm and seconds; `place` will add the affine."""
    size = 348 if max(volume.data.shape) < 2**15 else 540
    header = _SIZES[size]()
    _set_dim(header, (1, 1, 1))
    header["xyzt_units"] = 2 + 8
    header["vox_offset"] = size + 4
    return bytes(header.binaryblock) + bytes(4)


def _keep(extensions: bytes, order: str, wanted: Callable[[int], bool]) -> bytes:
    """The extension block (4 bytes flag, then size, code, content each) with only the wanted codes."""
    kept, at = b"", 4
    while extensions[:1] != b"\0" and at + 8 <= len(extensions):
        size, code = struct.unpack_from(order + "2i", extensions, at)
        if size < 8:
            break
        kept += extensions[at : at + size] if wanted(code) else b""
        at += size
    return (b"\1\0\0\0" if kept else bytes(4)) + kept
