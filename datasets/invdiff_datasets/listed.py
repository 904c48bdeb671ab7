"""Checksums that lie inside an archive, as The Cancer Imaging Archive sends them: md5hashes.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from invdiff.errors import DatasetError
from invdiff_datasets.fetch import digests


def check_listed(folder: Path, *, name: str, archive: str) -> None:
    """Compare each file of a folder with the list in it, of columns Filename and MD5Hash.

    Raises:
        DatasetError: no list; a file that is missing, damaged or not on it. A LICENSE need not be.
    """
    path = folder / name
    if not path.is_file():
        raise DatasetError(f"{archive} has no {name}, the list of its checksums; fetch it again")
    want = _want(path)
    files = {p.name: p for p in folder.rglob("*") if p.is_file() and p.name not in (name, "LICENSE")}
    odd = sorted(files.keys() ^ want.keys())
    wrong = odd or sorted(n for n, p in files.items() if digests(p, "md5")[1] != want[n])
    if wrong or not want:
        which = ", ".join(wrong[:3])
        raise DatasetError(f"{archive}: {len(wrong)} files are not as {name} says ({which}); fetch it again")


def _want(path: Path) -> dict[str, str]:
    """MD5 by file name; nothing if it is no such list."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            rows = {Path(row["Filename"]).name: row["MD5Hash"].strip().lower() for row in csv.DictReader(f)}
    except (KeyError, ValueError, AttributeError, TypeError, csv.Error):
        return {}
    return {name: checksum for name, checksum in rows.items() if name != "LICENSE"}
