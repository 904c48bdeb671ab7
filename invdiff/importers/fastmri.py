"""fastMRI's HDF5 files (Zbontar et al., arXiv 2018): k-space of a stack of slices, with ISMRMRD's XML header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.errors import FileError, ShapeError
from invdiff.importers import xml_header
from invdiff.importers.files import source
from invdiff.importers.kspace import KSpace


def read(path: Path, *, voxel: tuple[float, float, float] | None = None) -> KSpace:
    """The scan in a fastMRI file.

    Axes of `kspace`: slices, coils (not in single-coil files), readout, phase encoding. The readout is oversampled by
    the ratio of the header's encoded and reconstructed fields of view. Lines that are zero, or that `mask` leaves out,
    were not measured. fastMRI does not tell where a slice lies, and for the distance of slices only their thickness.

    Args:
        path: the file.
        voxel: size in mm along phase encoding, readout and slice, of a file without header; its readout is then taken
            as it is.

    Raises:
        FileError: missing, truncated, another format, a missing field, numbers that are not finite.
        ShapeError: a mask of another length than the lines.
        ConfigError: a trajectory other than Cartesian.
    """
    facts = source(path, "fastmri")
    kspace, mask, xml = _fields(path)
    slices, _, readout, phase = kspace.shape
    measured: NDArray[np.bool_] = np.any(kspace != 0, axis=(1, 2))
    if mask is not None:
        if mask.size != phase:
            raise ShapeError(f"{path}: the mask has {mask.size} lines, k-space {phase}; download the file again")
        measured &= mask.reshape(-1) != 0
    fov, oversampling = _field_of_view(path, xml, voxel, (slices, readout, phase))
    samples = torch.from_numpy(kspace * measured[:, None, None, :])[None, ..., None]
    return KSpace(samples, torch.from_numpy(measured)[None, ..., None], fov, oversampling, facts=facts)


def _fields(path: Path) -> tuple[NDArray[np.complex64], NDArray[Any] | None, bytes | None]:
    """K-space (slices, coils, readout, phase), mask and header."""
    try:
        with h5py.File(path, "r") as f:
            if "kspace" not in f:
                found = ", ".join(sorted(f)) or "nothing"
                raise FileError(f"{path} has no field 'kspace' but {found}; a fastMRI file holds raw k-space")
            if not isinstance(f["kspace"], h5py.Dataset):
                raise FileError(f"{path}: kspace is a group, not an array; is it a fastMRI file?")
            kspace = np.asarray(f["kspace"][()])
            mask = np.asarray(f["mask"][()]) if "mask" in f else None
            xml = f["ismrmrd_header"][()] if "ismrmrd_header" in f else None
    except FileError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as e:
        raise FileError(f"{path} is no readable HDF5 file, perhaps truncated; download it again") from e
    if kspace.ndim not in (3, 4) or kspace.dtype.kind != "c":
        found = f"{kspace.dtype} with axes {kspace.shape}"
        raise FileError(
            f"{path}: kspace is {found}, not complex (slices, [coils,] readout, phase); is it a fastMRI file?"
        )
    kspace = kspace[:, None] if kspace.ndim == 3 else kspace
    return np.ascontiguousarray(kspace, np.complex64), mask, xml


def _field_of_view(
    path: Path, xml: bytes | None, voxel: tuple[float, float, float] | None, sizes: tuple[int, int, int]
) -> tuple[tuple[float, float, float], float]:
    """Of the samples in mm, and the oversampling of the readout."""
    _, readout, phase = sizes
    if voxel is not None:
        return (voxel[1] * readout, voxel[0] * phase, voxel[2]), 1.0
    if xml is None:
        raise FileError(f"{path} has no field 'ismrmrd_header', so no voxel size; give --voxel, e.g. --voxel 0.7,0.7,3")
    header = xml_header.parse(path, xml)
    return header.fov, header.oversampling
