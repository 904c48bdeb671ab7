"""Reconstructions and their truths, from files: volumes by name, or what `invdiff batch` left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invdiff.errors import ConfigError, FileError
from invdiff.files import sha256
from invdiff_cli import runs
from invdiff_cli.images import is_image

if TYPE_CHECKING:
    from invdiff.calibration import Scan

SIDECAR = "what `invdiff reconstruct` writes beside a volume"
REPORT = "what `invdiff batch` writes into its folder"


def scans(results: Sequence[Path], references: Sequence[Path], masks: Sequence[Path]) -> list[Scan]:
    """Of folders of `invdiff batch`, or of volumes, each with its reference and, if there are any, its mask.

    Raises:
        ConfigError: folders and volumes at once; references or masks that are not as many as volumes.
        FileError, ShapeError: files that are missing, damaged or do not belong together.
    """
    folders = [path for path in results if path.is_dir()]
    if folders and len(folders) < len(results):
        raise ConfigError("folders of a batch and volumes at once; calibrate from one or the other")
    if folders:
        if references or masks:
            raise ConfigError("--reference and --mask are for volumes; the report of a batch names its references")
        return [scan for folder in folders for scan in _of_batch(folder)]
    for flag, given in (("reference", references), ("mask", masks)):
        if len(given) != len(results) and (given or flag == "reference"):
            told = f"{len(results)} reconstruction{'s' * (len(results) != 1)}, --{flag} {len(given)} times"
            raise ConfigError(f"{told}; give one for each, in the same order")
    return [
        _scan(path.name, path, runs.part(path, "std"), runs.sibling(path, ".json"), reference, *mask)
        for path, reference, *mask in zip(results, references, *([masks] if masks else []), strict=True)
    ]


def _of_batch(folder: Path) -> list[Scan]:
    report = folder / "run_report.json"
    results = runs.read_json(report, REPORT).get("results", [])
    found = []
    try:
        whole = [r for r in results if {"mean", "std", "sidecar", "reference"} <= r["files"].keys()]
        for r in whole:
            mean, std, sidecar, reference = (folder / r["files"][k] for k in ("mean", "std", "sidecar", "reference"))
            found.append(_scan(r["name"], mean, std, sidecar, reference, None, r.get("subject")))
    except (KeyError, TypeError, AttributeError) as e:
        raise FileError(f"{report}: its results are not those of `invdiff batch` ({e!r}); run the batch again") from e
    if not found:
        raise FileError(f"{report}: no result has both a spread and a reference; take two samples or more, of scans")
    if left := len(results) - len(whole):
        print(f"invdiff: {left} of {len(results)} results have no spread or no reference", file=sys.stderr)
    return found


def _scan(
    name: str,
    mean: Path,
    std: Path,
    sidecar: Path,
    reference: Path,
    mask: Path | None = None,
    subject: str | None = None,
) -> Scan:
    if not is_image(mean):
        raise ConfigError(f"{mean}: a reconstruction is a .nii or .nii.gz, or a folder of `invdiff batch`")
    if mean.is_file() and not std.is_file():
        raise FileError(f"{std}: no such file; a calibration needs the spread of two samples or more beside {mean}")
    from invdiff import volumes
    from invdiff.calibration import compared

    image, spread, truth = map(volumes.load, (mean, std, reference))
    facts = runs.read_json(sidecar, SIDECAR)
    inside = volumes.load(mask) if mask else None
    return compared(name, image, spread, truth, facts, sha256=sha256(reference), subject=subject, mask=inside)
