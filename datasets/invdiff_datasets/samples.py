"""Scans that are already on the machine, inside packages that invdiff depends on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

from invdiff.errors import ConfigError, FileError
from invdiff.files import sha256, write_atomic
from invdiff_datasets.base import Card, File, cards
from invdiff_datasets.place import Place

if TYPE_CHECKING:
    from invdiff.volumes import Volume

EXTRAS = {"dipy": "dmri"}


def epi_2mm(frame: int = 0) -> Volume:
    """One frame of the EPI series that ships with nibabel: 128 x 96 x 24 voxels of 2 x 2 x 2.2 mm.

    Raises:
        FileError: the installed nibabel carries another file.
    """
    from invdiff.volumes import load

    (file,) = cards()["epi_2mm"].files
    with inside(file) as path:
        series = load(path)
    return series.like(series.data[frame : frame + 1], series=False)


def copy(card: Card, place: Place) -> list[Path]:
    """Copy a sample, byte by byte, and write its card and citation beside it.

    Raises:
        ConfigError: its package is not installed; another file of that name is there.
        FileError: the package carries another file; the folder cannot be written.
    """
    place.make()
    targets = [place.root / file.path for file in card.files]
    for file, target in zip(card.files, targets, strict=True):
        with inside(file) as source:
            if not (target.is_file() and sha256(target) == sha256(source)):
                if target.exists():
                    raise ConfigError(f"{target} is there and is another file; remove it or choose another folder")
                write_atomic(target, partial(_copy, source))
    place.describe(card)
    return targets


@contextmanager
def inside(file: File) -> Iterator[Path]:
    """The file of an installed package that a sample is; raises as `copy`."""
    package, _, below = (file.inside or "").partition("/")
    try:
        root = files(package)
    except ModuleNotFoundError:
        what = f"invdiff[{EXTRAS[package]}]" if package in EXTRAS else package
        raise ConfigError(f"{file.path} lies inside {package}, which is not installed; pip install '{what}'") from None
    with as_file(root.joinpath(below)) as path:
        if not path.is_file() or f"sha256:{sha256(path)}" != file.checksum:
            raise FileError(f"{path} is missing or not the file expected; install {package} again from PyPI")
        yield path


def _copy(source: Path, target: Path) -> None:
    copyfile(source, target)
