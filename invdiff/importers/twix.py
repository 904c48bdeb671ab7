"""Siemens raw data (meas.dat, "twix"), software VB to VE, by twixtools: Cartesian stacks of slices and volumes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import ConfigError, FileError
from invdiff.importers import readouts
from invdiff.importers.files import missing_extra, source
from invdiff.importers.kspace import KSpace
from invdiff.importers.readouts import Readout

OVERSAMPLING = 2  # of every Siemens readout
BANDWIDTH = 0.79  # noise-equivalent bandwidth of the receiver in noise scans (Kellman and McVeigh, MRM 2005)
NOT_IMAGE = (
    "ACQEND", "SYNCDATA", "RTFEEDBACK", "HPFEEDBACK", "REFPHASESTABSCAN", "PHASESTABSCAN", "PHASCOR", "NOISEADJSCAN",
    "noname60",
)  # fmt: skip
INPLACE = 2  # sPat.ucRefScanMode: reference lines belong to the image's k-space


def read(path: Path) -> KSpace:
    """The last scan in a twix file; noise scans before it whiten the coils.

    Echoes, repetitions, cardiac phases and sets are frames, averages are averaged. Reference lines that were measured
    with the image belong to it, those of a separate scan do not.

    Raises:
        FileError: missing, truncated, no twix file, a header without k-space settings.
        ConfigError: a trajectory other than Cartesian, ramp sampling; the package twixtools is missing.
    """
    facts = source(path, "twix")
    try:
        import twixtools  # type: ignore[import-untyped]
    except ImportError as e:
        raise missing_extra("twixtools", "raw") from e
    scans = _open(path, twixtools)
    scan = scans[-1]
    protocol = scan.get("hdr", {}).get("MeasYaps", {})
    try:
        kspace, first = protocol["sKSpace"], protocol["sSliceArray"]["asSlice"][0]
        base, phases = int(kspace["lBaseResolution"]), int(kspace["lPhaseEncodingLines"])
        partitions = int(kspace["lPartitions"]) if int(kspace["ucDimension"]) == 4 else 1
        fov = (float(first["dReadoutFOV"]), float(first["dPhaseFOV"]), float(first["dThickness"]))
    except (KeyError, IndexError, TypeError, ValueError) as e:
        raise FileError(f"{path}: the header lacks {e}; only complete measurement files are read") from e
    _cartesian(path, scan, kspace)
    embedded = int(protocol.get("sPat", {}).get("ucRefScanMode", 0)) == INPLACE
    lines = [m for m in scan["mdb"] if _is_image(m, embedded=embedded)]
    image = [_readout(m) for m in lines]
    sizes = (OVERSAMPLING * base, max([phases, *(r.phase + 1 for r in image)]), partitions)
    centres = (int(lines[0].mdh.CenterLin), int(lines[0].mdh.CenterPar)) if lines else (None, None)
    done = readouts.sort(path.name, image, sizes, (centres[0], centres[1] if partitions > 1 else None))
    fov = (
        OVERSAMPLING * fov[0],
        fov[1] * (1 + float(kspace.get("dPhaseOversamplingForDialog", 0))),
        fov[2] * (1 + float(kspace.get("dSliceOversamplingForDialog", 0))) if partitions > 1 else fov[2],
    )
    noise = _noise(scans, scan, done.averages, coils=done.samples.shape[2])
    return KSpace(done.samples, done.measured, fov, OVERSAMPLING, readouts.place(image), noise, facts)


def _open(path: Path, twixtools: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a module without types
    """All scans of a file; twixtools prints what it wonders about, which is not for a library to say."""
    broken = FileError(f"{path} is no readable twix file, perhaps truncated; copy or export it again")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            scans = twixtools.read_twix(
                str(path), parse_pmu=False, parse_geometry=False, verbose=False, keep_acqend=True
            )
        except (OSError, ValueError, IndexError, KeyError, RuntimeError, OverflowError, UnboundLocalError) as e:
            raise broken from e
    scans = [s for s in scans if s.get("mdb")]
    if not scans or "error" in said.getvalue():
        raise broken
    if not scans[-1]["mdb"][-1].is_flag_set("ACQEND"):
        raise FileError(f"{path} ends before the scan does: it is truncated; copy or export it again")
    return scans


def _cartesian(path: Path, scan: dict[str, Any], kspace: dict[str, Any]) -> None:
    if int(kspace.get("ucTrajectory", 1)) != 1:
        raise ConfigError(
            f"{path} has trajectory type {kspace['ucTrajectory']}; only Cartesian scans (1) are imported. Others can "
            "be reconstructed from Python with NUFFT(space, trajectory)"
        )
    regrid = scan["hdr"].get("Meas", {}).get("alRegridMode", 1)
    mode = regrid[0] if isinstance(regrid, list) and regrid else regrid
    if mode not in (1, 1.0, "", []):
        raise ConfigError(
            f"{path} was sampled on the gradients' ramps (regridding mode {mode}); it needs regridding first"
        )


def _is_image(m: Any, *, embedded: bool) -> bool:  # noqa: ANN401
    reference_only = m.is_flag_set("PATREFSCAN") and not m.is_flag_set("PATREFANDIMASCAN")
    return not any(map(m.is_flag_set, NOT_IMAGE)) and (embedded or not reference_only)


def _readout(m: Any) -> Readout:  # noqa: ANN401
    data, centre = np.asarray(m.data, np.complex64), int(m.mdh.CenterCol)
    if m.is_flag_set("REFLECT"):
        data, centre = data[:, ::-1], data.shape[1] - 1 - centre
    where, counter = m.mdh.SliceData, m.mdh.Counter
    return Readout(
        data=data,
        centre=centre,
        phase=int(counter.Lin),
        partition=int(counter.Par),
        slice=int(counter.Sli),
        frame=(int(counter.Eco), int(counter.Phs), int(counter.Rep), int(counter.Set)),
        position=np.array([where.SlicePos.Sag, where.SlicePos.Cor, where.SlicePos.Tra], np.float64),
        directions=_directions(np.array(where.Quaternion, np.float64)),
    )


def _directions(quaternion: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Unit rows readout, phase, slice in the patient's system; the first two turned round as twixtools does."""
    if abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        return None
    r, i, j, k = quaternion
    phase = -np.array([1 - 2 * (j * j + k * k), 2 * (i * j + k * r), 2 * (i * k - j * r)])
    read = -np.array([2 * (i * j - k * r), 1 - 2 * (i * i + k * k), 2 * (j * k + i * r)])
    normal = np.array([2 * (i * k + j * r), 2 * (j * k - i * r), 1 - 2 * (i * i + j * j)])
    return np.stack([read, phase, normal])


def _noise(scans: list[dict[str, Any]], image: dict[str, Any], averages: int, *, coils: int) -> Any:  # noqa: ANN401
    found = [(s, m) for s in scans for m in s["mdb"] if m.is_flag_set("NOISEADJSCAN")]
    if not found:
        return None
    scale = readouts.noise_scale(_dwell(found[0][0]), _dwell(image), BANDWIDTH, averages)
    return readouts.noise_scan([np.asarray(m.data, np.complex64) for _, m in found], scale, coils)


def _dwell(scan: dict[str, Any]) -> float:
    """Sampling time in ns; 0 where the header does not tell."""
    times = scan.get("hdr", {}).get("MeasYaps", {}).get("sRXSPEC", {}).get("alDwellTime", [0])
    return float(times[0]) if times else 0.0
