"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz): read into memory, written back with every header field intact."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import FileError, InvdiffError
from invdiff.files import refuse_existing, write_atomic
from invdiff.volumes.header import check_axes, dim, header_bytes, split
from invdiff.volumes.placement import Header, stored_affine
from invdiff.volumes.volume import Volume

_REAL = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COMPLEX = {32: "complex64", 1792: "complex128", 2048: "complex256"}
_OTHER = {0: "unknown", 1: "1-bit", 128: "RGB", 1536: "float128", 2304: "RGBA"}


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


def _decode(raw: bytes) -> Volume:
    header, extensions = split(raw)
    shape = dim(header)
    check_axes(shape)
    affine = stored_affine(header)
    offset = len(header.binaryblock) + len(extensions)
    data = torch.from_numpy(_voxels(header, raw, offset))
    _check_finite(data)
    return Volume(data, affine, raw[:offset], series=len(shape) > 3)


def _voxels(header: Header, raw: bytes, offset: int) -> NDArray[np.float32]:
    """The voxels, scaled, (C, X, Y, Z)."""
    dtype = _dtype(int(header["datatype"])).newbyteorder(header.endianness)
    x, y, z, frames = (*dim(header), 1)[:4]
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
    count = sum(int((~torch.isfinite(plane)).sum()) for frame in data for plane in frame)  # no mask of it all in memory
    if count:
        bad = ~torch.isfinite(data)
        frame, *index = map(int, np.unravel_index(int(bad.flatten().int().argmax()), data.shape))
        where = f"{index}" + (f" of frame {frame}" if len(data) > 1 else "")
        raise FileError(
            f"{count} of {data.numel()} voxels are NaN or infinite in float32, the first at {where}; "
            "clean the volume first, nothing is repaired here"
        )


def _write(path: Path, head: bytes, data: Tensor) -> None:
    with path.open("wb") as f:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=f, mtime=0) as packed:
                _pour(packed, head, data)
        else:
            _pour(f, head, data)


def _pour(f: IO[bytes] | gzip.GzipFile, head: bytes, data: Tensor) -> None:
    f.write(head)
    order = split(head)[0].endianness
    for frame in data.detach().cpu().numpy():
        for plane in frame.T:  # no second volume in memory
            f.write(plane.astype(f"{order}f4").tobytes())
