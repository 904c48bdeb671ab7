"""BART's pairs of .hdr (dimensions) and .cfl (complex64, first dimension fastest): Cartesian k-space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.errors import FileError
from invdiff.importers.files import source
from invdiff.importers.kspace import KSpace

# Where BART's dimensions are found; all others must be 1.
READ, PHASE1, PHASE2, COIL, ECHO, TIME, SLICE = 0, 1, 2, 3, 5, 10, 13
READ_HERE = {READ, PHASE1, PHASE2, COIL, ECHO, TIME, SLICE}


def read(path: Path, *, voxel: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> KSpace:
    """The k-space in STEM.hdr and STEM.cfl; echoes and time points are frames.

    Readouts that are zero were not measured. The files tell neither voxel size nor place nor oversampling.

    Args:
        path: STEM, or either file.
        voxel: size in mm along phase encoding, readout and slice.

    Raises:
        FileError: a missing or truncated file, dimensions that are no k-space, numbers that are not finite.
    """
    stem = path.with_suffix("") if path.suffix in (".hdr", ".cfl") else path
    facts = source(stem.with_name(stem.name + ".cfl"), "cfl")
    data = read_array(stem)
    extra = [f"{n} along {d}" for d, n in enumerate(data.shape) if n > 1 and d not in READ_HERE]
    if extra:
        raise FileError(
            f"{stem}.cfl has {', '.join(extra)}; k-space of read, phases, coils, echoes, times, slices is read"
        )
    first = data.transpose(ECHO, TIME, SLICE, COIL, READ, PHASE1, PHASE2, *sorted(set(range(16)) - READ_HERE))
    kspace = first.reshape(-1, *first.shape[2:7])  # frames, slices, coils, readout, phase, partition
    samples = torch.from_numpy(np.ascontiguousarray(kspace, np.complex64))
    measured = samples.abs().amax((2, 3)) > 0
    n, phases, partitions = samples.shape[3:]
    fov = (voxel[1] * n, voxel[0] * phases, voxel[2] * partitions)
    return KSpace(samples, measured, fov, facts=facts)


def read_array(stem: Path) -> NDArray[np.complex64]:
    """The array of 16 dimensions; raises FileError."""
    header = stem.with_name(stem.name + ".hdr")
    try:
        lines = [x for x in header.read_text().splitlines() if x.strip() and not x.startswith("#")]
        shape = [int(n) for n in lines[0].split()]
        values = np.fromfile(stem.with_name(stem.name + ".cfl"), np.dtype("<c8"))
    except FileNotFoundError as e:
        raise FileError(f"{e.filename}: no such file; BART's arrays are pairs STEM.hdr and STEM.cfl") from e
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as e:
        raise FileError(f"{header} is no BART header (a line of dimensions); export the array again") from e
    if not 1 <= len(shape) <= 16 or min(shape) < 1:
        raise FileError(f"{header} has dimensions {shape}; 1 to 16 positive ones are needed, export the array again")
    count = int(np.prod(shape))
    if values.size != count:
        raise FileError(f"{stem}.cfl holds {values.size} numbers, its header says {count}; copy or export it again")
    return values.reshape(shape + [1] * (16 - len(shape)), order="F")
