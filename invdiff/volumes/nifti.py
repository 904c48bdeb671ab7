"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz): read into memory, written back with every header field intact."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import FileError, GeometryError, InvdiffError, ShapeError
from invdiff.files import refuse_existing, write_atomic
from invdiff.volumes.geometry import Header, place, stored_affine
from invdiff.volumes.volume import Volume

_SIZES: dict[int, Any] = {348: Nifti1Header, 540: Nifti2Header}  # the first number of a file tells the version
_REAL = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COMPLEX = {32: "complex64", 1792: "complex128", 2048: "complex256"}
_OTHER = {0: "unknown", 1: "1-bit", 128: "RGB", 1536: "float128", 2304: "RGBA"}
_AXIS_BOUND = {4, 10, 20, 22, 24, 26, 32, 34}  # AFNI, Jim, MiND, CIFTI, frame timing: they describe grid or frames


def load(path: Path | str) -> Volume:
    """Read a 3-D or 4-D NIfTI file into memory as float32, axes as stored, scl_slope and scl_inter applied.

    Whether the file is gzipped is seen from its content. Integers beyond 2^24 are rounded to float32.

    Raises:
        FileError: missing, unreadable, truncated, not NIfTI, colour or complex voxels, NaN or infinite voxels.
        GeometryError: not 3-D or 4-D, empty, or an affine that is singular or not finite.
    """
    try:
        return _decode(_read(Path(path)))
    except InvdiffError as e:
        raise type(e)(f"{path}: {e}") from e


def save(path: Path | str, volume: Volume, *, force: bool = False) -> None:
    """Write a volume as NIfTI, gzipped if the name says so; never half a file, the same bytes for the same volume.

    Voxels are written as float32 with slope 1 and intercept 0, whatever the source held: reconstructions are real
    numbers. The rest is the source's header, bit for bit (version, byte order, sform, qform, codes, units, pixdim,
    intent, text, slice order, extensions), but for dim, datatype, bitpix, scl_*, cal_* and vox_offset. After a crop
    or reorientation both forms move along, and extensions that describe axes or frames are left out.

    Raises:
        FileError: a name that ends neither in .nii nor in .nii.gz, voxels that are not finite, or a failed write.
        ConfigError: the file exists and `force` is off.
        ShapeError: more voxels along an axis than the NIfTI version of the source can count.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise FileError(f"{path}: a volume is written as .nii or .nii.gz; choose one of these endings")
    refuse_existing([path], force=force)
    try:
        _check_finite(volume.data)
        head = header_bytes(volume)
    except InvdiffError as e:
        raise type(e)(f"{path}: {e}") from e
    write_atomic(path, lambda temporary: _write(temporary, head, volume.data))


def header_bytes(volume: Volume) -> bytes:
    """What `save` writes before the first voxel: header and extensions. Keep them as raw bytes, zeros included.

    Raises:
        ShapeError: more voxels along an axis than the NIfTI version of the source can count.
    """
    header, extensions = _split(_fresh(volume) if volume.header is None else volume.header)
    frames, *grid = volume.data.shape
    old = _dim(header)
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
    header, _ = _split(raw)
    shape = _dim(header)
    _check_axes(shape)
    if tuple(data.shape[1:]) != shape[:3]:
        raise ShapeError(f"the header is for grid {shape[:3]}, the data have {tuple(data.shape[1:])}")
    return Volume(data, stored_affine(header), bytes(raw), series=len(shape) > 3)


def _read(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError as e:
        raise FileError("no such file; check the name") from e
    except IsADirectoryError as e:
        raise FileError("is a folder; name a file in it") from e
    except EOFError as e:
        raise FileError("the gzip stream ends early, the file is truncated; copy or download it again") from e
    except (gzip.BadGzipFile, zlib.error) as e:
        raise FileError(f"the gzip stream is damaged ({e}); copy or download it again") from e
    except OSError as e:
        raise FileError(f"cannot be read: {e.strerror or e}; check the path and its permissions") from e


def _split(raw: bytes) -> tuple[Header, bytes]:
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


def _decode(raw: bytes) -> Volume:
    header, extensions = _split(raw)
    shape = _dim(header)
    _check_axes(shape)
    affine = stored_affine(header)
    offset = len(header.binaryblock) + len(extensions)
    data = torch.from_numpy(_voxels(header, raw, offset))
    _check_finite(data)
    return Volume(data, affine, raw[:offset], series=len(shape) > 3)


def _dim(header: Header) -> tuple[int, ...]:
    return tuple(header["dim"][1 : int(header["dim"][0]) + 1].tolist())


def _set_dim(header: Header, shape: tuple[int, ...]) -> None:
    if shape == _dim(header):
        return
    limit = np.iinfo(header["dim"].dtype).max
    if max(shape) > limit:
        raise ShapeError(f"{max(shape)} voxels along an axis; this NIfTI version counts to {limit}, split the volume")
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]


def _check_axes(shape: tuple[int, ...]) -> None:
    found = " x ".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise GeometryError(f"the volume is empty ({found or 'no axes'}); nothing can be reconstructed from it")
    if len(shape) < 3:
        raise GeometryError(f"{len(shape)} axes ({found}), a volume needs 3; store a single slice as {found} x 1")
    if max(shape[4:], default=1) > 1:
        raise GeometryError(f"{len(shape)} axes ({found}), at most 4 are read (X, Y, Z, frame); split the file first")


def _voxels(header: Header, raw: bytes, offset: int) -> NDArray[np.float32]:
    """The voxels, scaled, (C, X, Y, Z)."""
    dtype = _dtype(int(header["datatype"])).newbyteorder(header.endianness)
    x, y, z, frames = (*_dim(header), 1)[:4]
    count = frames * z * y * x
    if len(raw) < offset + count * dtype.itemsize:
        sizes = f"{len(raw) - offset} of {count * dtype.itemsize} bytes of voxels"
        raise FileError(f"holds {sizes}, the file is truncated; copy or download it again")
    stored = np.frombuffer(raw, dtype, count, offset).reshape(frames, z, y, x)
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    scaled = slope != 0 and math.isfinite(slope) and (slope, inter) != (1, 0)
    out = np.empty((frames, x, y, z), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found by _check_finite
        for frame, source in zip(out, stored, strict=True):
            frame[...] = source.T * np.float64(slope) + inter if scaled else source.T
    return out


def _dtype(code: int) -> np.dtype[np.generic]:
    if code in _COMPLEX:
        raise FileError(f"holds {_COMPLEX[code]} voxels, only real ones are read; save magnitude or parts as volumes")
    if code not in _REAL:
        name = _OTHER.get(code, f"type {code}")
        raise FileError(f"holds {name} voxels, which are no single real intensity; convert to int16 or float32 first")
    return np.dtype(_REAL[code])


def _check_finite(data: Tensor) -> None:
    bad = ~torch.isfinite(data)
    count = int(bad.sum())
    if count:
        frame, *index = map(int, np.unravel_index(int(bad.flatten().int().argmax()), data.shape))
        where = f"{index}" + (f" of frame {frame}" if len(data) > 1 else "")
        raise FileError(
            f"{count} of {data.numel()} voxels are NaN or infinite in float32, the first at {where}; "
            "clean the volume first, nothing is repaired here"
        )


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


def _write(path: Path, head: bytes, data: Tensor) -> None:
    with path.open("wb") as f:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=f, mtime=0) as packed:
                _pour(packed, head, data)
        else:
            _pour(f, head, data)


def _pour(f: IO[bytes] | gzip.GzipFile, head: bytes, data: Tensor) -> None:
    f.write(head)
    order = _split(head)[0].endianness
    for frame in data.detach().cpu().numpy():
        f.write(frame.T.astype(f"{order}f4").tobytes())
