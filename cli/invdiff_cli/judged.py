"""Images read and their rows of figures, against a reference and without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff.errors import FileError, ShapeError
from invdiff_cli import regions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from invdiff.metrics import Likeness, Protocol
    from invdiff.volumes import Volume

Row = dict[str, Any]
NAN = float("nan")


def against_reference(
    recon: Path,
    reference: Path,
    protocol: Protocol,
    *,
    mask: Path | None = None,
    per_slice: bool = False,
    labels: Path | None = None,
    names: Path | None = None,
) -> list[Row]:
    """A row per frame, each followed by those of its slices and then of its regions."""
    from invdiff import volumes

    image, truth = volumes.load(recon), volumes.load(reference)
    inside, regional = (one_volume(path) if path else None for path in (mask, labels))
    called = regions.names(labels, names) if labels else {}
    fit = _fit(recon, told=False)
    rows = []
    for n, likeness in enumerate(likenesses(image, truth, (recon, reference), inside, protocol)):
        found = [likeness.whole() | fit]
        found += likeness.slices() if per_slice else []
        found += likeness.regions(_voxels(regional), called) if regional else []
        rows += [{"image": recon.name, "reference": reference.name, "frame": n} | row for row in found]
    _tell_places(recon, image, {reference: truth, mask: inside, labels: regional})
    return rows


def likenesses(
    image: Volume, truth: Volume, names: tuple[Path, Path], mask: Volume | None, protocol: Protocol
) -> Iterator[Likeness]:
    """Of each frame with its reference; `names` are those of both, for the error of volumes of two shapes."""
    from invdiff.metrics import Likeness

    if image.data.shape != truth.data.shape:
        shapes = f"{tuple(image.data.shape)}, {names[1]} has {tuple(truth.data.shape)}"
        raise ShapeError(f"{names[0]} has shape {shapes} (frames, x, y, z)")
    inside = None if mask is None else _voxels(mask) != 0
    for x, r in zip(image.data.numpy(), truth.data.numpy(), strict=True):
        yield Likeness(x, r, mask=inside, protocol=protocol)


def alone(recon: Path, mask: Path | None) -> list[Row]:
    """A row per frame: how the image fits its measurement and, in a mask, the noise and its spectrum."""
    from invdiff import volumes
    from invdiff.metrics.noise_power import noise_power

    image, region = volumes.load(recon), one_volume(mask) if mask else None
    rows: list[Row] = []
    for n, x in enumerate(image.data.numpy()):
        rows.append({"image": recon.name, "frame": n, "mask": mask is not None})
        if region:
            flat = _voxels(region) != 0
            found = noise_power(x, flat, image.spacing[:2])
            rows[-1] |= {
                "noise": found.noise,
                "nps_mean_frequency": found.mean_frequency,
                "nps_peak_frequency": found.peak_frequency,
                "nps_peak": found.peak,
                "voxels": int(flat.sum()),
                "noise_power": found.facts(),
            }
    _tell_places(recon, image, {mask: region})
    fit = _fit(recon, told=True)
    return [row | fit for row in rows]


def _fit(recon: Path, *, told: bool) -> dict[str, float | None]:
    """Data residual and chi2, or NaN; on stderr why there are none, if that is to be told."""
    from invdiff.metrics.noreference import data_fit

    try:
        return data_fit(recon)
    except FileError as e:
        if told:
            print(f"invdiff: {e}; data_residual and chi2 are n/a", file=sys.stderr)
        return {"data_residual": NAN, "chi2": NAN}


def one_volume(path: Path) -> Volume:
    """A mask, or labels, for all frames; raises ShapeError where there are several."""
    from invdiff import volumes

    volume = volumes.load(path)
    if len(volume.data) > 1:
        raise ShapeError(f"{path} has {len(volume.data)} frames; masks and regions are one volume for all frames")
    return volume


def _voxels(volume: Volume) -> NDArray[np.float32]:
    return volume.data[0].numpy()


def _tell_places(path: Path, volume: Volume, others: Mapping[Path | None, Volume | None]) -> None:
    """Say on stderr which volumes lie elsewhere: voxels are compared by their index."""
    for other_path, other in others.items():
        distance = float(abs(volume.affine - other.affine).max()) if other else 0.0
        if other_path and distance > 1e-3:
            names = f"{path.name} and {other_path.name} lie in different places (affines differ by {distance:.3g})"
            print(f"invdiff: warning: {names}; voxels are compared by their index", file=sys.stderr)
