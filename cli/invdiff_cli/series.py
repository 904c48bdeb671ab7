"""Diffusion series on the command line: their gradient tables, masks and complex parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invdiff.errors import ConfigError, ShapeError
from invdiff_cli import runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from invdiff.volumes import Volume
    from invdiff.volumes.gradients import Gradients

Bval = Annotated[
    Path | None,
    typer.Option(help="b-values in s/mm^2, as FSL writes them. [beside the series, .bval]", show_default=False),
]
Bvec = Annotated[
    Path | None,
    typer.Option(help="Directions, three rows or columns. [beside the series, .bvec]", show_default=False),
]
Mask = Annotated[
    Path | None,
    typer.Option(help="Volume that is not zero where there is tissue. [found in the mean b0]", show_default=False),
]


def tables(series: Path, bval: Path | None, bvec: Path | None) -> tuple[Path, Path]:
    """Both files; raises ConfigError where one is neither given nor beside the series."""
    found = bval or runs.sibling(series, ".bval"), bvec or runs.sibling(series, ".bvec")
    for path, given, flag in zip(found, (bval, bvec), ("--bval", "--bvec"), strict=True):
        if given is None and not path.is_file():
            raise ConfigError(f"{series} has no {path.name} beside it; give {flag}")
    return found


def gradients(files: tuple[Path, Path], volume: Volume, name: Path) -> Gradients:
    """The table, of as many rows as the series has volumes; raises ConfigError for others."""
    from invdiff.volumes.gradients import load_gradients

    table = load_gradients(*files)
    if len(table) != len(volume.data):
        raise ConfigError(
            f"{files[0]} has {len(table)} b-values, {name} {len(volume.data)} volumes; name its own table"
        )
    return table


def mask(path: Path | None, volume: Volume) -> NDArray[np.bool_] | None:
    """Where a volume is not zero; raises ShapeError for another grid."""
    from invdiff import volumes

    if path is None:
        return None
    inside = volumes.load(path).data[0].numpy() != 0
    if inside.shape != tuple(volume.data.shape[1:]):
        raise ShapeError(
            f"{path} has shape {inside.shape}, the series {tuple(volume.data.shape[1:])}; give its own mask"
        )
    return inside


def turned(volume: Volume, other: Volume, *, polar: bool) -> Volume:
    """The real part of a complex series without its smooth phase; raises ShapeError for parts of other shapes."""
    from invdiff.denoising.phase import real_part
    from invdiff.volumes.layout import volumewise, voxelwise

    return volume.like(volumewise(real_part(*(voxelwise(v.data) for v in (volume, other)), polar=polar)))
