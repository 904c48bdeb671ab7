"""Names of regions."""

from __future__ import annotations

from pathlib import Path

from invdiff.errors import FileError
from invdiff_cli import tsv
from invdiff_cli.runs import sibling


def names(labels: Path, given: Path | None) -> dict[int, str]:
    """Names by label: of the file given, or else of the .tsv beside the labels; none without either.

    Two columns, or those that a header line calls `label` (BIDS: `index`) and `name`.

    Raises:
        FileError: a header line without these, a label that is no whole number, a label or a name that comes twice.
    """
    path = given or sibling(labels, ".tsv")
    if given is None and not path.is_file():
        return {}
    rows = tsv.lines(path)
    columns = _columns(rows[0], path)
    found: dict[int, str] = {}
    for row in rows if columns is None else rows[1:]:
        label, name = (row[i] for i in columns or (0, 1))
        if not _whole(label):
            raise FileError(f"{path}: {label!r} is no label; labels are whole numbers")
        if int(label) in found or name in found.values():
            raise FileError(f"{path}: label {label} or the name {name!r} comes twice")
        found[int(label)] = name
    return found


def _columns(first: list[str], path: Path) -> tuple[int, int] | None:
    """Where a header line has labels and names; None if there is no such line."""
    if len(first) > 1 and _whole(first[0]):
        return None
    label = "label" if "label" in first else "index"
    if label not in first or "name" not in first:
        raise FileError(f"{path} has the columns {', '.join(first)}; names of regions are in label and name")
    return first.index(label), first.index("name")


def _whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()
