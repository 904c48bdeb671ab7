"""What was fetched of a set: the checksums that it is held to, and each file with its subject and split."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Self

from invdiff.errors import DatasetError
from invdiff_datasets.fetch import Got, Held
from invdiff_datasets.place import Place

EVERY = 5.0  # seconds between two writes


@dataclass(frozen=True)
class Row:
    """A file of a set.

    Attributes:
        path: below the folder of the place.
        bytes: its size.
        source: the file of the card that it is, or was unpacked from.
        subset, subject, split: as the card and the rule say; empty where they say nothing.
    """

    path: str
    bytes: int
    source: str
    subset: str = ""
    subject: str = ""
    split: str = ""


class Ledger:
    """Read from a place, and written to it now and then and at the end of a `with` block.

    Raises:
        DatasetError: what is there is damaged.
    """

    def __init__(self, place: Place) -> None:
        self.place, self._written = place, time.monotonic()
        self._entries = self._read_entries()
        self._rows: dict[str, list[Row]] = {}
        for row in self._read_rows():
            self._rows.setdefault(row.source, []).append(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    @property
    def rows(self) -> list[Row]:
        """Files of the set, by path."""
        return sorted((row for some in self._rows.values() for row in some), key=lambda row: row.path)

    def held(self, source: str) -> Held | None:
        """What the first fetch of a file of the card said of it."""
        entry = self._entries.get(source, {})
        if not entry.get("sha256"):
            return None
        return Held(f"sha256:{entry['sha256']}", f"the first fetch ({self.place.beside('lock.json')})", entry["bytes"])

    def has(self, source: str, subjects: int | None) -> bool:
        """Whether a file of the card, or so many subjects of it, are here: each file there, and of its size."""
        entry, rows = self._entries.get(source), self._rows.get(source, [])
        if not entry or not rows or self.lost(rows):
            return False
        return entry["subjects"] is None or (subjects is not None and entry["subjects"] >= subjects)

    def lost(self, rows: Sequence[Row]) -> list[Row]:
        """Files that are not here, or have another size."""
        at = {row: self.place.root / row.path for row in rows}
        return [row for row, path in at.items() if not path.is_file() or path.stat().st_size != row.bytes]

    def note(self, source: str, got: Got, rows: list[Row], subjects: int | None = None, *, stable: bool = True) -> None:
        """Keep what was fetched.

        Args:
            source: the file of the card.
            got: its size and checksum.
            rows: the files that it is or holds.
            subjects: how many of an archive were unpacked, None for all.
            stable: whether the source sends the same bytes each time.
        """
        self._entries[source] = {"bytes": got.bytes, "sha256": got.sha256 if stable else None, "subjects": subjects}
        self._rows[source] = rows
        if time.monotonic() - self._written > EVERY:
            self.save()

    def save(self) -> None:
        """Write both files."""
        self.place.write("lock.json", json.dumps({"files": dict(sorted(self._entries.items()))}, indent=1) + "\n")
        text = io.StringIO()
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerow(f.name for f in fields(Row))
        table.writerows(map(astuple, self.rows))
        self.place.write("files.tsv", text.getvalue())
        self._written = time.monotonic()

    def _read_entries(self) -> dict[str, Any]:
        path = self.place.beside("lock.json")
        if not path.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(path.read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DatasetError(f"{path} is damaged ({e}); delete it to trust the source anew") from e
        return found

    def _read_rows(self) -> list[Row]:
        path = self.place.beside("files.tsv")
        if not path.is_file():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as f:
                table = csv.DictReader(f, delimiter="\t")
                return [Row(**{**row, "bytes": int(row["bytes"])}) for row in table]  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, KeyError) as e:
            raise DatasetError(f"{path} is damaged ({e}); delete it and fetch the set again") from e
