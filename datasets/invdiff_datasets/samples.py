"""Scans that are already on the machine, inside packages that invdiff depends on."""

from __future__ import annotations

from importlib.resources import as_file, files

from invdiff.errors import FileError
from invdiff.files import sha256
from invdiff.volumes import Volume, load
from invdiff_datasets.base import cards


def epi_2mm(frame: int = 0) -> Volume:
    """One frame of the EPI series that ships with nibabel: 128 x 96 x 24 voxels of 2 x 2 x 2.2 mm.

    Raises:
        FileError: the installed nibabel carries another file.
    """
    want = cards()["epi_2mm"].sha256
    with as_file(files("nibabel") / "tests" / "data" / "example4d.nii.gz") as path:
        if not path.is_file() or sha256(path) != want:
            raise FileError(f"{path} is missing or not the file expected; install nibabel again from PyPI")
        series = load(path)
    return series.like(series.data[frame : frame + 1], series=False)
