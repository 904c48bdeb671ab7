"""Images that are measurements: which acquisition, with which settings and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff import catalogue
from invdiff.errors import ConfigError, FileError
from invdiff.files import sha256

if TYPE_CHECKING:
    from invdiff.measurements import Measurement

RAW = {"mri": "fastmri, ismrmrd, twix or cfl", "ct": "sinogram"}


def is_image(path: Path) -> bool:
    """Whether a file is a NIfTI image by its name, rather than a measurement."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_name(output: Path, what: str = "volume") -> None:
    """Raise ConfigError where an output is no NIfTI file by its name."""
    if not is_image(output):
        raise ConfigError(f"{output}: a {what} is written as .nii or .nii.gz; choose one of these endings")


def checked(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`{"kind": ..., **settings}`, names and values checked without importing torch; raises ConfigError."""
    kind = kind.lower()
    if kind in RAW:
        raise ConfigError(f"an image is not what {kind} measures; bring raw data by `invdiff import` {RAW[kind]}")
    return {"kind": kind, **catalogue.check("acquisitions", kind, settings)}


def measured(
    image: Path, acquisition: dict[str, Any], *, axis: int, sigma: float | None, noise: float | None
) -> Measurement:
    """The measurement that an image is."""
    from invdiff import config, registry, volumes
    from invdiff.importers.image import measurement
    from invdiff.importers.level import Level

    settings = dict(acquisition)
    how: Any = config.build(registry.find("acquisitions", settings.pop("kind")), settings)
    return measurement(volumes.load(image), how, axis=axis, level=Level(sigma, noise))


def record(measured: Measurement, folder: Path) -> dict[str, Any]:
    """What a run file in `folder` says of an image: the acquisition with every setting, axis, noise level."""
    from invdiff import config

    acquisition = config.dump(measured.acquisition)
    found = checksums(acquisition)
    content = {"acquisition": moved(acquisition, Path(), folder), **({"acquisition_sha256": found} if found else {})}
    return content | {"axis": measured.axis, "sigma": config.dump(measured.noise)["sigma"]}


def files(acquisition: dict[str, Any]) -> dict[str, str]:
    """The settings that name files: all that are free text."""
    entry = catalogue.find("acquisitions", acquisition["kind"])
    free = [s["name"] for s in entry["settings"] if s["type"] == "str" and "choices" not in s]
    return {name: acquisition[name] for name in free if acquisition.get(name) is not None}


def moved(acquisition: dict[str, Any], start: Path, to: Path) -> dict[str, Any]:
    """The same acquisition, its files as seen from the folder `to` rather than from `start`."""
    found = {name: os.path.relpath((start / file).resolve(), to.resolve()) for name, file in files(acquisition).items()}
    return acquisition | found


def checksums(acquisition: dict[str, Any]) -> dict[str, str]:
    """Of its files; raises FileError for one that is missing."""
    for name, file in files(acquisition).items():
        if not Path(file).is_file():
            raise FileError(f"{file}: no such file, acquisition.{name} names it; check the name")
    return {name: sha256(Path(file)) for name, file in files(acquisition).items()}
