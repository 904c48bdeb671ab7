"""Laws of volumes: files survive a round trip bit for bit, moves keep every voxel in its place, slices come back."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.volumes import Volume, from_header_bytes, from_slices, header_bytes, load, save, to_slices

REWRITTEN = frozenset({"datatype", "bitpix", "scl_slope", "scl_inter", "cal_min", "cal_max"})


def check_round_trip(source: Path, folder: Path) -> Volume:
    """Load a NIfTI file of at most 4 axes, save it to `folder` as .nii and .nii.gz, compare with the source's bytes.

    Every header field but `REWRITTEN`, the extensions and the voxels (as float32, read by nibabel) must be the same;
    so must a copy that went through `header_bytes`.

    Returns: the volume.
    Raises: AssertionError naming the field that changed.
    """
    volume = load(source)
    plain, packed = folder / "round-trip.nii", folder / "round-trip.nii.gz"
    save(plain, volume, force=True)
    save(packed, from_header_bytes(header_bytes(volume), volume.data), force=True)
    assert plain.read_bytes() == gzip.decompress(packed.read_bytes()), "header_bytes lost something"
    before, after = header_fields(source), header_fields(plain)
    assert before.keys() == after.keys(), "another NIfTI version"
    changed = [name for name in before if name not in REWRITTEN and before[name] != after[name]]
    assert not changed, f"{source}: {changed} changed: {[(before[name], after[name]) for name in changed]}"
    _check_same(volume, load(plain))
    _check_same(volume, load(packed))
    np.testing.assert_array_equal(voxels(plain), voxels(source), strict=True)
    np.testing.assert_array_equal(file_order(volume), voxels(source), strict=True)
    return volume


def check_same_place(moved: Volume, source: Volume, *, atol: float = 1e-3) -> None:
    """Each voxel of `moved` lies where `source` has a voxel, at most `atol` voxels off, and holds the same numbers.

    Raises: AssertionError.
    """
    index = np.indices(moved.data.shape[1:]).reshape(3, -1)
    world = moved.affine @ np.vstack([index, np.ones(index.shape[1])])
    exact = np.linalg.solve(source.affine, world)[:3]
    there = np.rint(exact).astype(np.int64)
    assert np.abs(exact - there).max() < atol, "voxels of the one lie between voxels of the other"
    assert (there >= 0).all(), "voxels outside the source"
    x, y, z = torch.from_numpy(there)
    torch.testing.assert_close(moved.data.flatten(1), source.data[:, x, y, z], rtol=0, atol=0)


def check_slices(data: torch.Tensor) -> None:
    """Slices of data (C, X, Y, Z) are contiguous, in order, and come back exactly, along each axis.

    Raises: AssertionError.
    """
    for axis in range(3):
        slices = to_slices(data, axis)
        count = data.shape[axis + 1]
        assert slices.is_contiguous()
        assert slices.shape[:2] == (len(data) * count, 1)
        for p, cut in enumerate(slices[:, 0]):
            assert torch.equal(cut, data[p // count].select(axis, p % count))
        assert torch.equal(from_slices(slices, data.shape, axis), data)
        assert from_slices(slices, data.shape, axis).is_contiguous()


def header_fields(path: Path) -> dict[str, bytes]:
    """The raw bytes of every field of a NIfTI header, in file order; "extensions" is what precedes the voxels."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    swapped = raw[:4] in (b"\0\0\1\x5c", b"\0\0\2\x1c")
    two = 540 in (int.from_bytes(raw[:4], "big"), int.from_bytes(raw[:4], "little"))
    dtype = (nibabel.nifti2.header_dtype if two else nibabel.nifti1.header_dtype).newbyteorder(">" if swapped else "<")
    record = np.frombuffer(raw, dtype, 1)[0]
    fields = {name: record[name].tobytes() for name in dtype.names or ()}
    return {**fields, "extensions": raw[dtype.itemsize : int(record["vox_offset"])]}


def voxels(path: Path) -> NDArray[np.float32]:
    """The scaled voxels in file order (X, Y, Z) or (X, Y, Z, frame), as nibabel reads them."""
    image = cast("nibabel.spatialimages.SpatialImage", nibabel.load(path))
    return np.asanyarray(image.dataobj).astype(np.float32)


def file_order(volume: Volume) -> NDArray[np.float32]:
    """The voxels of a volume as its file orders them, (X, Y, Z) or (X, Y, Z, frame)."""
    data: NDArray[np.float32] = volume.data.numpy()
    return np.moveaxis(data, 0, -1) if volume.series or len(data) > 1 else data[0]


def _check_same(one: Volume, two: Volume) -> None:
    np.testing.assert_array_equal(one.affine, two.affine)
    assert torch.equal(one.data, two.data)
    assert one.series == two.series
