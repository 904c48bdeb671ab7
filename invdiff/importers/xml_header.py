"""The XML header of ISMRMRD (Inati et al., MRM 2017), which fastMRI's files hold too: what Cartesian scans need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from invdiff.errors import ConfigError, FileError

Three = tuple[float, float, float]
SPACE = "{http://www.ismrm.org/ISMRMRD}"


@dataclass(frozen=True)
class Header:
    """One encoding.

    Attributes:
        matrix: encoded samples along readout, phase and slice.
        fov: encoded field of view in mm.
        recon_fov: reconstructed field of view in mm; smaller along an oversampled readout.
        centres: index of DC among the phase and partition counters; None where the header does not tell.
        calibration: of parallel imaging: embedded, interleaved, separate, external or other; "" without.
        noise_bandwidth: of the receiver, relative to the sampling rate of a noise scan.
    """

    matrix: tuple[int, int, int]
    fov: Three
    recon_fov: Three
    centres: tuple[int | None, int | None] = (None, None)
    calibration: str = ""
    noise_bandwidth: float = 1.0

    @property
    def oversampling(self) -> float:
        """Of the readout."""
        return max(1.0, self.fov[0] / self.recon_fov[0])


def parse(path: Path, xml: bytes | str) -> Header:
    """The first encoding of a header.

    Raises:
        FileError: not XML, a missing field, several encodings.
        ConfigError: a trajectory other than Cartesian.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as e:
        raise FileError(f"{path}: the ISMRMRD header is no XML ({e}); export the scan again") from e
    encodings = root.findall(f"{SPACE}encoding")
    if len(encodings) != 1:
        raise FileError(f"{path}: the header has {len(encodings)} encodings, one is read; export one scan per file")
    encoding = encodings[0]
    trajectory = _text(path, encoding, "trajectory").lower()
    if trajectory != "cartesian":
        raise ConfigError(
            f"{path} has a {trajectory} trajectory; only Cartesian scans are imported. Radial, spiral and other "
            "samples can be reconstructed from Python with NUFFT(space, trajectory), or grid them first"
        )
    bandwidth = _find(root, "acquisitionSystemInformation", "relativeReceiverNoiseBandwidth")
    mode = _find(encoding, "parallelImaging", "calibrationMode")
    return Header(
        matrix=_three(path, encoding, "encodedSpace", "matrixSize", int),
        fov=_three(path, encoding, "encodedSpace", "fieldOfView_mm", float),
        recon_fov=_three(path, encoding, "reconSpace", "fieldOfView_mm", float),
        centres=(_centre(path, encoding, "kspace_encoding_step_1"), _centre(path, encoding, "kspace_encoding_step_2")),
        calibration="" if mode is None else str(mode.text).strip().lower(),
        noise_bandwidth=1.0 if bandwidth is None else _number(path, bandwidth, "relativeReceiverNoiseBandwidth"),
    )


def _find(element: ElementTree.Element, *names: str) -> ElementTree.Element | None:
    return element.find("/".join(SPACE + name for name in names))


def _text(path: Path, element: ElementTree.Element, *names: str) -> str:
    found = _find(element, *names)
    if found is None or not (found.text or "").strip():
        raise FileError(f"{path}: the header lacks encoding/{'/'.join(names)}; export the scan again")
    return str(found.text).strip()


def _three(path: Path, encoding: ElementTree.Element, space: str, field: str, kind: type) -> tuple:  # type: ignore[type-arg]
    for axis in "xyz":
        _text(path, encoding, space, field, axis)  # says what is missing
    found = (_find(encoding, space, field, axis) for axis in "xyz")
    return tuple(kind(_number(path, f, f"encoding/{space}/{field}")) for f in found if f is not None)


def _centre(path: Path, encoding: ElementTree.Element, counter: str) -> int | None:
    found = _find(encoding, "encodingLimits", counter, "center")
    return None if found is None else int(_number(path, found, f"encodingLimits/{counter}/center", least=0))


def _number(path: Path, element: ElementTree.Element, name: str, *, least: float | None = None) -> float:
    """A finite number above 0, or from `least` on."""
    try:
        value = float(str(element.text))
    except ValueError as e:
        raise FileError(f"{path}: the header's {name} is no number ({e}); correct it") from e
    if not (0 < value if least is None else least <= value) or value == math.inf:
        raise FileError(f"{path}: the header's {name} is {value:g}; correct it")
    return value
