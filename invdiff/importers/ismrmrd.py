"""ISMRMRD's HDF5 files (Inati et al., MRM 2017): Cartesian stacks of slices and volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from invdiff.errors import FileError
from invdiff.importers import readouts, xml_header
from invdiff.importers.files import missing_extra, source
from invdiff.importers.kspace import KSpace
from invdiff.importers.readouts import Readout

NOT_IMAGE = (
    "ACQ_IS_NOISE_MEASUREMENT",
    "ACQ_IS_NAVIGATION_DATA",
    "ACQ_IS_PHASECORR_DATA",
    "ACQ_IS_HPFEEDBACK_DATA",
    "ACQ_IS_DUMMYSCAN_DATA",
    "ACQ_IS_RTFEEDBACK_DATA",
    "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA",
    "ACQ_IS_PHASE_STABILIZATION_REFERENCE",
    "ACQ_IS_PHASE_STABILIZATION",
)


def read(path: Path) -> KSpace:
    """The scan in an ISMRMRD file: group `dataset`, one encoding.

    Echoes, repetitions, cardiac phases and sets are frames. Noise measurements give the noise and whiten the coils.
    Lines for calibration only are used where the header says that they belong to the image's k-space (embedded).

    Raises:
        FileError: missing, truncated, no ISMRMRD file, lines outside the encoded matrix, numbers that are not finite.
        ConfigError: a trajectory other than Cartesian; the package ismrmrd is missing.
    """
    facts = source(path, "ismrmrd")
    try:
        import ismrmrd  # type: ignore[import-untyped]
    except ImportError as e:
        raise missing_extra("ismrmrd", "raw") from e
    xml, acquisitions = _open(path, ismrmrd)
    header = xml_header.parse(path, xml)
    not_image = [getattr(ismrmrd, flag) for flag in NOT_IMAGE]
    noise = [a for a in acquisitions if a.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    lines = [a for a in acquisitions if not any(map(a.is_flag_set, not_image))]
    if header.calibration != "embedded":
        lines = [a for a in lines if not a.is_flag_set(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)]
    image = [_readout(a, reverse=a.is_flag_set(ismrmrd.ACQ_IS_REVERSE)) for a in lines]
    if any(a.trajectory_dimensions for a in lines):
        raise FileError(f"{path} says Cartesian, but its readouts carry trajectories; correct the header")
    done = readouts.sort(path.name, image, header.matrix, header.centres)
    times = [a[0].sample_time_us if a else 0.0 for a in (noise, lines)]
    scale = readouts.noise_scale(times[0], times[1], header.noise_bandwidth, done.averages)
    scan = readouts.noise_scan([np.asarray(a.data) for a in noise], scale, done.samples.shape[2])
    return KSpace(done.samples, done.measured, header.fov, header.oversampling, readouts.place(image), scan, facts)


def _open(path: Path, ismrmrd: Any) -> tuple[bytes, list[Any]]:  # noqa: ANN401 - a module without types
    try:
        with ismrmrd.Dataset(str(path), mode="r") as f:
            return f.read_xml_header(), [f.read_acquisition(n) for n in range(f.number_of_acquisitions())]
    except LookupError as e:
        reason = str(e).strip("'\"")
        raise FileError(f"{path} is no ISMRMRD file ({reason}); it needs the group 'dataset' with xml and data") from e
    except (OSError, RuntimeError, ValueError, AttributeError) as e:
        raise FileError(f"{path} is no readable HDF5 file, perhaps truncated; copy or export it again") from e


def _readout(a: Any, *, reverse: bool) -> Readout:  # noqa: ANN401
    """A line without the samples that the scanner marked as useless."""
    data = np.asarray(a.data, np.complex64)
    kept = data[:, a.discard_pre : data.shape[1] - a.discard_post]
    centre = a.center_sample - a.discard_pre
    if reverse:
        kept, centre = kept[:, ::-1], kept.shape[1] - 1 - centre
    known = any(a.read_dir) and any(a.phase_dir) and any(a.slice_dir)
    return Readout(
        data=kept,
        centre=centre,
        phase=a.idx.kspace_encode_step_1,
        partition=a.idx.kspace_encode_step_2,
        slice=a.idx.slice,
        frame=(a.idx.contrast, a.idx.phase, a.idx.repetition, a.idx.set),
        position=np.array(a.position[:], np.float64) if known else None,
        directions=np.array([a.read_dir[:], a.phase_dir[:], a.slice_dir[:]], np.float64) if known else None,
    )
