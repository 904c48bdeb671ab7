"""Which scans a batch has: files, folders, globs, a TSV manifest, or a BIDS tree."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from invdiff.config import suggest
from invdiff.errors import ConfigError, FileError
from invdiff_cli import tsv

ENDINGS = (".nii", ".nii.gz", ".h5")
COLUMNS = ("input", "name", "reference", "mask")


@dataclass(frozen=True)
class Scan:
    """One row of a batch; its paths are absolute, for workers may stand elsewhere.

    Attributes:
        name: of its outputs: a path below the output folder, without an ending.
        source: the volume, or the measurement.
        reference: what the reconstruction should be; where the source is simulated from, itself.
        mask: voxels that count, in the evaluation.
        subject: BIDS label, of a BIDS tree.
        suffix: BIDS suffix, of a BIDS tree, e.g. T1w; it ends the names of the outputs.
    """

    name: str
    source: Path
    reference: Path | None = None
    mask: Path | None = None
    subject: str | None = None
    suffix: str | None = None


def found(inputs: Sequence[str], output: Path) -> list[Scan]:
    """All scans of the inputs, by name.

    Raises:
        FileError: an input that is not there, or holds no scan.
        ConfigError: two of one name; an output folder inside an input.
    """
    scans = [scan for text in inputs for scan in _of(text, output)]
    return checked(scans)


def checked(scans: Iterable[Scan]) -> list[Scan]:
    """Sorted by name; raises ConfigError where two would have the same outputs."""
    by_name: dict[str, Scan] = {}
    for scan in scans:
        if (other := by_name.get(scan.name)) and other.source != scan.source:
            raise ConfigError(
                f"{other.source} and {scan.source} would both be written as {scan.name}; give them names of their own "
                "in a manifest (a TSV with the columns input and name)"
            )
        by_name[scan.name] = scan
    return [by_name[name] for name in sorted(by_name)]


def outside(output: Path, folder: Path) -> None:
    """Raise ConfigError where the outputs would be inputs of the next run."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"the output folder {output} is inside the input {folder}; choose one outside of it")


def _of(text: str, output: Path) -> list[Scan]:
    path = Path(text)
    if path.is_dir():
        outside(output, path)
        return _folder(path)
    if path.is_file():
        return _manifest(path) if path.suffix == ".tsv" else [_single(path)]
    # A pattern may begin anywhere, which Path.glob does not take.
    matches = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if p.lower().endswith(ENDINGS)]  # noqa: PTH207
    if not matches:
        raise FileError(f"{text}: no such file, folder or pattern; check the name")
    return [_single(p) for p in matches]


def _folder(folder: Path) -> list[Scan]:
    if (folder / "dataset_description.json").is_file():
        from invdiff_cli.batch.bids import scans

        return scans(folder)
    files = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(ENDINGS) and not _hidden(p, folder))
    if not files:
        raise FileError(f"{folder} holds no .nii, .nii.gz or .h5 file")
    return [replace(_single(p), name=(p.parent.relative_to(folder) / _stem(p)).as_posix()) for p in files]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _single(path: Path) -> Scan:
    if not path.name.lower().endswith(ENDINGS):
        raise FileError(
            f"{path} is no scan by its name; a batch takes .nii, .nii.gz and .h5, folders and .tsv manifests"
        )
    return Scan(_stem(path), path.resolve())


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".nii", ".h5"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _manifest(path: Path) -> list[Scan]:
    """One scan a row; paths are relative to the manifest."""
    columns, *rows = tsv.lines(path)
    for column in columns:
        if column not in COLUMNS:
            raise ConfigError(f"{path} has an unknown column {column!r}{suggest(column, COLUMNS)}")
    if "input" not in columns or not rows:
        raise ConfigError(
            f"{path} names no scans; a manifest has a column `input`, and name, reference, mask if wanted"
        )
    named = (dict(zip(columns, row, strict=True)) for row in rows)
    return [_row(path, number, row) for number, row in enumerate(named, start=2)]


def _row(path: Path, number: int, row: dict[str, str]) -> Scan:
    given = {column: cell for column, cell in row.items() if cell not in ("", "n/a")}
    files = {k: (path.parent / given[k]).resolve() for k in ("input", "reference", "mask") if k in given}
    if "input" not in files:
        raise ConfigError(f"{path}, line {number}: no input")
    name = given.get("name") or _stem(files["input"])
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigError(f"{path}, line {number}: the name {name!r} leads out of the output folder; give a plain one")
    return Scan(name, files["input"], files.get("reference"), files.get("mask"))
