"""From the files that a user names to sources of training crops, some of it held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from invdiff.errors import DatasetError
from invdiff.files import sha256
from invdiff.priors.scaling import Units, percentile
from invdiff.training.crops import Crops, Mixed, Planes, Source, WithPhase
from invdiff.volumes import Volume, load
from invdiff_datasets.phantoms import Ellipses
from invdiff_datasets.synthesis import LabelCrops

ELLIPSES = "ellipses"
Phase = Literal["simulated", "frames"]
LABEL_SHARE = 0.15  # painted label maps have no texture of their own: a spice, not a meal


@dataclass(frozen=True)
class Data:
    """What a prior learns from.

    Attributes:
        train, validation: sources without a common voxel.
        spacing: least and greatest side of a pixel, in mm; empty for phantoms.
        scans: file name and checksum of each.
    """

    train: Source
    validation: Source
    spacing: list[float]
    scans: list[dict[str, str]]


def sources(
    names: Sequence[str | Path],
    *,
    labels: Sequence[str | Path] = (),
    channels: int = 1,
    phase: Phase = "simulated",
    planes: Planes = "all",
    window: tuple[float, float] | None = None,
    holdout: float = 0.08,
) -> Data:
    """Read volumes and make crops of them.

    Args:
        names: NIfTI files, folders of them, or `ellipses` for random phantoms.
        labels: integer label maps, painted in random contrasts and mixed in.
        channels: 1 for magnitudes or Hounsfield units, 2 for complex images with a smooth random phase.
        phase: with 2 channels, whether a smooth random phase is given to magnitudes, or the two frames of each volume
            are its real and imaginary part.
        planes: all three, or the axis that counts the slices.
        window: stored values that become 0 and 1, e.g. -1000 and 1000 HU; contrast is then left as it is. None:
            intensities are divided by each volume's 99.9th percentile and their contrast is varied.
        holdout: fraction of each volume, a slab in the middle of its third axis, that only validation sees.

    Raises:
        DatasetError: no volumes; mixed channel counts, i.e. other than two frames where real and imaginary part are
            asked for; unusable planes.
        FileError: a file that cannot be read.
    """
    if list(names) == [ELLIPSES]:
        return Data(Ellipses(), Ellipses(), [], [])
    paths = find(names)
    volumes = [(path, load(path)) for path in paths]
    measured = phase == "frames"
    if measured:
        _two_frames(volumes)
    frames = [
        (scaled(x, window), v.spacing) for _, v in volumes for x in (v.data[None] if measured else v.data[:, None])
    ]
    kept = [(part, mm) for x, mm in frames for part in _split(x, holdout)[0]]
    held = [(_split(x, holdout)[1], mm) for x, mm in frames]
    try:
        crops = _crops(kept, planes, window)
        train: Source = crops
        validation: Source = _crops(held, planes, window)
    except ValueError as e:
        raise DatasetError(str(e)) from e
    if labels:
        painted = LabelCrops([load(Path(path)).data[0] for path in labels])
        train = Mixed([train, painted], [1 - LABEL_SHARE, LABEL_SHARE])
    if channels == 2 and not measured:
        train, validation = WithPhase(train), WithPhase(validation)
    scans = [{"file": path.name, "sha256": sha256(path)} for path in (*paths, *map(Path, labels))]
    return Data(train, validation, crops.spacing, scans)


def find(names: Sequence[str | Path]) -> list[Path]:
    """NIfTI files named, or inside the folders named, sorted within each; raises DatasetError when there are none."""
    found: list[Path] = []
    for item in map(Path, names):
        found += sorted(p for p in item.rglob("*") if p.name.endswith((".nii", ".nii.gz"))) if item.is_dir() else [item]
    if not found:
        raise DatasetError(f"no .nii or .nii.gz volumes in {', '.join(map(str, names))}; name files or another folder")
    return found


def scaled(data: Tensor, window: tuple[float, float] | None) -> Tensor:
    """Stored values (C, X, Y, Z) in the prior's units; below air is air, unless real and imaginary part are given."""
    scale = Units(window).between(*(window or (0.0, percentile(data[None]))))
    x = (data - scale.offset) / scale.unit
    return x.clamp_min(0) if len(x) == 1 else x


def _crops(parts: list[tuple[Tensor, Any]], planes: Planes, window: tuple[float, float] | None) -> Crops:
    volumes, spacings = zip(*parts, strict=True)
    return Crops(volumes, spacings, planes=planes, contrast=window is None and len(volumes[0]) == 1)


def _split(x: Tensor, fraction: float) -> tuple[list[Tensor], Tensor]:
    """The volume below and above a slab in the middle of the third axis, and the slab, of one slice at least."""
    depth = x.shape[3]
    thick = min(max(1, round(fraction * depth)), depth)
    low = (depth - thick) // 2
    below, slab, above = torch.tensor_split(x, [low, low + thick], dim=3)
    return [p for p in (below, above) if p.shape[3]] or [slab], slab


def _two_frames(volumes: list[tuple[Path, Volume]]) -> None:
    for path, volume in volumes:
        if len(volume.data) != 2:
            found = f"{path.name} has {len(volume.data)} frame(s)"
            raise DatasetError(
                f"{found}, not a real and an imaginary one like the others; leave it out or use magnitudes"
            )
