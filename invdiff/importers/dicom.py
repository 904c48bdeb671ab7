"""A DICOM series as a volume: sorted along its normal, in the units that its rescaling gives, at its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.errors import ConfigError, FileError, GeometryError
from invdiff.importers.files import missing_extra
from invdiff.importers.place import LPS_TO_RAS, step
from invdiff.volumes import Volume

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slice:
    """One image of a series.

    Attributes:
        file: its name.
        pixels: (rows, columns), rescaled.
        position: centre of the first pixel in mm (LPS), (3,).
        orientation: (2, 3), unit vectors along a row (towards larger columns) and along a column.
        spacing: distance of rows and of columns in mm.
        thickness: in mm, for series of one slice; 0 where unknown.
    """

    file: str
    pixels: NDArray[np.float32]
    position: Floats
    orientation: Floats
    spacing: tuple[float, float]
    thickness: float


def read(folder: Path, *, series: str | None = None) -> Volume:
    """The volume of a series; stored axes are columns, rows, slices.

    Args:
        folder: with the files of one series, single-frame or enhanced multi-frame; others are ignored.
        series: SeriesInstanceUID, of a folder with several.

    Raises:
        FileError: no DICOM files, compressed in a way that cannot be read here, colour, or a missing field.
        GeometryError: images of several sizes or orientations, missing or unequal slices, or several at one place.
        ConfigError: several series; the package pydicom is missing.
    """
    try:
        import pydicom
    except ImportError as e:
        raise missing_extra("pydicom", "dicom") from e
    files = _files(folder, pydicom)
    chosen = _one_series(folder, files, series)
    slices = [s for path in chosen for s in _read(path, pydicom)]
    return _volume(folder, slices)


def _files(folder: Path, pydicom: Any) -> dict[Path, Any]:  # noqa: ANN401 - a module without types
    """The image files of a folder and their headers."""
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder; give the one that holds the files of a DICOM series")
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "DICOMDIR"):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, OSError, EOFError):
            continue
        if "Rows" in header:
            found[path] = header
    if not found:
        raise FileError(f"{folder} holds no DICOM images")
    return found


def _one_series(folder: Path, files: dict[Path, Any], wanted: str | None) -> list[Path]:
    groups: dict[str, list[Path]] = {}
    for path, header in files.items():
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(path)
    if wanted is not None and wanted in groups:
        return groups[wanted]
    if wanted is None and len(groups) == 1:
        return next(iter(groups.values()))
    rows = [
        f"{uid} ({len(paths)} files, {files[paths[0]].get('SeriesDescription') or 'no description'})"
        for uid, paths in groups.items()
    ]
    raise ConfigError(f"{folder} holds {len(groups)} series; choose one by --series: {'; '.join(rows)}")


def _read(path: Path, pydicom: Any) -> list[Slice]:  # noqa: ANN401
    """The images of a file; FileError where a field is malformed, whatever pydicom or numpy raise for it."""
    try:
        return list(_images(path, pydicom))
    except FileError:
        raise
    except Exception as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise FileError(f"{path}: a field is malformed ({reason}); export the series again") from e


def _images(path: Path, pydicom: Any) -> Iterator[Slice]:  # noqa: ANN401
    """The images of a file."""
    data = pydicom.dcmread(path)
    if int(data.get("SamplesPerPixel") or 1) != 1:
        raise FileError(f"{path} holds colour, which is no single real intensity; choose another series")
    try:
        pixels = data.pixel_array
    except Exception as e:  # whatever the decoders raise
        syntax = data.file_meta.TransferSyntaxUID.name if "TransferSyntaxUID" in data.file_meta else "unknown encoding"
        raise FileError(
            f"{path}: pixels cannot be read ({syntax}); copy it again, or decompress it by gdcmconv --raw"
        ) from e
    frames = int(data.get("NumberOfFrames") or 1)
    pixels = pixels.reshape(frames, *pixels.shape[-2:])
    for n, image in enumerate(pixels):
        yield _slice(path, data, image, n)


def _slice(path: Path, data: Any, image: NDArray[Any], n: int) -> Slice:  # noqa: ANN401
    position = _field(path, data, n, "PlanePositionSequence", "ImagePositionPatient")
    directions = _field(path, data, n, "PlaneOrientationSequence", "ImageOrientationPatient")
    rows, columns = _field(path, data, n, "PixelMeasuresSequence", "PixelSpacing")
    slope = float(_optional(data, n, "PixelValueTransformationSequence", "RescaleSlope") or 1)
    intercept = float(_optional(data, n, "PixelValueTransformationSequence", "RescaleIntercept") or 0)
    thickness = _optional(data, n, "PixelMeasuresSequence", "SliceThickness")
    return Slice(
        file=path.name,
        pixels=(image.astype(np.float64) * slope + intercept).astype(np.float32),
        position=np.array(position, np.float64).reshape(3),
        orientation=np.array(directions, np.float64).reshape(2, 3),
        spacing=(float(rows), float(columns)),
        thickness=float(thickness or 0),
    )


def _optional(data: Any, n: int, sequence: str, name: str) -> Any:  # noqa: ANN401
    """A field of frame n: its own, that of all frames, or that of the file."""
    own, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    for group in ([own[n]] if own else []) + ([shared[0]] if shared else []):
        if sequence in group and name in group[sequence].value[0]:
            return group[sequence].value[0][name].value
    return data.get(name)


def _field(path: Path, data: Any, n: int, sequence: str, name: str) -> Any:  # noqa: ANN401
    value = _optional(data, n, sequence, name)
    if value is None:
        raise FileError(f"{path} lacks {name}, so it has no place in the world; choose a series of slices")
    return value


def _volume(folder: Path, slices: list[Slice]) -> Volume:
    first = slices[0]
    for s in slices:
        same = s.pixels.shape == first.pixels.shape and np.allclose(s.spacing, first.spacing, rtol=1e-4)
        if not same or not np.allclose(s.orientation, first.orientation, atol=1e-3):
            raise GeometryError(
                f"{folder}: {s.file} has {_looks(s)}, {first.file} has {_looks(first)}; separate them into folders"
            )
    row, column = first.orientation
    normal = np.cross(row, column)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    try:
        across = step(positions) if len(slices) > 1 else normal * (first.thickness or 1.0)
    except GeometryError as e:
        raise GeometryError(f"{folder}: {e}") from e
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * first.spacing[1], column * first.spacing[0], across
    lps[:3, 3] = positions[0]
    data = np.stack([s.pixels.T for s in slices], axis=-1)
    return Volume(torch.from_numpy(np.ascontiguousarray(data))[None], LPS_TO_RAS @ lps)


def _looks(s: Slice) -> str:
    size = " x ".join(map(str, s.pixels.shape))
    return f"{size} pixels of {s.spacing[0]:g} x {s.spacing[1]:g} mm, orientation {np.round(s.orientation, 3).tolist()}"
