"""A reconstruction held against its truth: errors and standard deviations of each slice, inside the body."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter

from invdiff.errors import FileError, ShapeError
from invdiff.volumes import Volume

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
LEAST = 100  # voxels of a slice that counts: fewer have no 99 % quantile of a finite sample
RULE = "the reconstruction, smoothed by a voxel, above 10 % of its range; holes of slices filled"
GIVEN = "given"


@dataclass(frozen=True, eq=False)
class Slice:
    """Of a volume, across its third stored axis.

    Attributes:
        height: 0 to 1, where in the volume.
        error: reference - mean inside the mask, (voxels,), in intensity units.
        std: in the same.
    """

    height: float
    error: Array
    std: Array


@dataclass(frozen=True, eq=False)
class Scan:
    """Those of a scan that hold enough of the body.

    Attributes:
        name: of the scan, for people.
        sha256: of the file of its reference.
        subject: whom it shows; scans of one subject are left out together.
        method: how it was reconstructed, see `method`.
        mask: the rule by which voxels count.
        slices: of all frames.
    """

    name: str
    sha256: str
    subject: str
    method: dict[str, Any]
    mask: str
    slices: list[Slice]


def compared(
    name: str,
    mean: Volume,
    std: Volume,
    reference: Volume,
    facts: dict[str, Any],
    *,
    sha256: str = "",
    subject: str | None = None,
    mask: Volume | None = None,
) -> Scan:
    """Hold a reconstruction against its truth.

    Args:
        name: of the scan.
        mean: the reconstruction, as `invdiff.reconstruct` gives it.
        std: its standard deviation.
        reference: the truth.
        facts: `Reconstruction.facts`, or the sidecar JSON.
        sha256: checksum of the file of the reference.
        subject: whom it shows; by default the scan of this checksum and nobody else.
        mask: what counts, where not zero, one frame or all; by default the body (`RULE`), by the reconstruction alone.

    Raises:
        ShapeError: volumes of different shapes, or no slice with 100 voxels inside the mask.
        FileError: facts that are not those of a reconstruction.
    """
    for what, other in (("standard deviation", std), ("reference", reference)):
        if other.data.shape != mean.data.shape:
            found = f"{tuple(other.data.shape)}, the reconstruction {tuple(mean.data.shape)} (frames, x, y, z)"
            raise ShapeError(f"{name}: the {what} has shape {found}; give the same grid")
    if mask is not None and mask.data.shape not in (mean.data.shape, (1, *mean.data.shape[1:])):
        raise ShapeError(f"{name}: the mask has shape {tuple(mask.data.shape[1:])}, the reconstruction "
                         f"{tuple(mean.data.shape[1:])}; give the same grid")  # fmt: skip
    how, slices = method(facts, name), []
    unit = how.pop("unit")
    for frame, (m, s, r) in enumerate(zip(mean.data.numpy(), std.data.numpy(), reference.data.numpy(), strict=True)):
        inside = body(m) if mask is None else mask.data[frame % len(mask.data)].numpy() != 0
        depth = m.shape[2]
        for k in range(depth):
            at = inside[..., k]
            if at.sum() >= LEAST:
                error = (r[..., k][at] - m[..., k][at]) / unit
                slices.append(Slice((k + 0.5) / depth, error, s[..., k][at] / unit))
    if not slices:
        raise ShapeError(f"{name}: no slice has {LEAST} voxels inside the mask; give another --mask or a larger scan")
    return Scan(name, sha256, subject or sha256 or name, how, RULE if mask is None else GIVEN, slices)


def body(mean: Array) -> Mask:
    """What is not air, by the image (X, Y, Z) alone: see `RULE`; the range is that of 99.8 % of the voxels."""
    low, high = np.quantile(mean, (0.001, 0.999))
    inside = gaussian_filter(mean.astype(np.float64), (1, 1, 0)) > low + 0.1 * (high - low)
    return np.stack([binary_fill_holes(inside[..., k]) for k in range(inside.shape[2])], axis=2)


def method(facts: dict[str, Any], name: str = "the reconstruction") -> dict[str, Any]:
    """What an uncertainty depends on, of a sidecar: solver, acquisition, prior, samples; settings as `solver.steps`.

    Raises:
        FileError: these are not the facts of a reconstruction.
    """
    try:
        prior = facts["prior"] or {}
        return {
            **_flat("solver", facts["solver"]),
            **_flat("acquisition", facts["acquisition"]),
            "prior": prior.get("name"),
            "prior_sha256": prior.get("sha256"),
            "samples": len(facts["seeds"]),
            "antithetic": facts["antithetic"],
            "planes": facts["planes"] and list(facts["planes"]["axes"]),
            "warm": facts["warm"] and facts["warm"]["along"],
            "steered": facts["steering"] is not None,
            "unit": float(facts["intensity_unit"]),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise FileError(f"{name}: its .json is not that of a reconstruction ({e}); reconstruct again") from e


def _flat(group: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`{"solver": "diffpir", "solver.steps": 12}`; files by their name alone."""
    named = {k: Path(v).name if isinstance(v, str) else v for k, v in settings.items()}
    return {group: named.pop("kind")} | {f"{group}.{k}": v for k, v in named.items()}
