"""Where a set lies, and what stands beside it: its card, its citation, the checksums it is held to, its files.

In the folder that the user chose, NAME holds the files of a set, and beside it lie

    NAME.card.json      the card
    NAME.CITATION.txt   title, licence, source and what to cite
    NAME.lock.json      size and SHA-256 of all that was fetched: what is fetched again is held to it
    NAME.files.tsv      each file, with its subject and split
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from invdiff.errors import DatasetError, FileError
from invdiff.files import write_atomic
from invdiff_datasets.base import Card
from invdiff_datasets.fetch import Got, Held

FIRST = "the first fetch"


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


def data_folder() -> Path:
    """Where sets go unless told otherwise: INVDIFF_DATA_DIR, or the user's data folder; need not exist."""
    named = os.environ.get("INVDIFF_DATA_DIR")
    return Path(named) if named else user_data_path("invdiff", appauthor=False) / "data"


@dataclass(frozen=True)
class Place:
    """A set in a folder."""

    root: Path
    name: str

    @classmethod
    def of(cls, card: Card, root: Path) -> Place:
        """Of a card; each snapshot of OpenNeuro has a name of its own."""
        return cls(root, card.name.rpartition(":")[2].replace("@", "-"))

    @property
    def folder(self) -> Path:
        """Of the set's files."""
        return self.root / self.name

    def make(self) -> None:
        """Make the folder; raises FileError where that is not possible."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise FileError(f"cannot make the folder {self.root}: {e.strerror}") from e

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One fetch at a time; the lock of a process that died is none. Raises DatasetError when there is another."""
        lock = FileLock(self.root / f".{self.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise DatasetError(f"{self.name} is being fetched into {self.root} already; wait for that fetch") from None
        try:
            yield
        finally:
            lock.release()

    def describe(self, card: Card) -> None:
        """Write the card and the citation."""
        self._write("card.json", json.dumps(_stated(asdict(card)), indent=1) + "\n")
        lines = [card.title, f"Licence: {card.licence}", f"Source: {card.source}"]
        if card.citation:
            lines.append(f"Cite: {card.citation.whole}")
        self._write("CITATION.txt", "\n".join(lines) + "\n")

    def held(self, source: str) -> Held | None:
        """What the first fetch of a file of the card said of it."""
        entry = self._lock().get(source, {})
        if not entry.get("sha256"):
            return None
        return Held(f"sha256:{entry['sha256']}", f"{FIRST} ({self._path('lock.json')})", entry["bytes"])

    def hold(self, source: str, got: Got, subjects: int | None, *, stable: bool = True) -> None:
        """Keep what was fetched; `subjects`: how many of an archive were unpacked, None for all."""
        entry = {"bytes": got.bytes, "sha256": got.sha256 if stable else None, "subjects": subjects}
        content = self._lock() | {source: entry}
        self._write("lock.json", json.dumps({"files": dict(sorted(content.items()))}, indent=1) + "\n")

    def has(self, source: str, subjects: int | None) -> bool:
        """Whether a file of the card, or so many subjects of it, are here: each file there, and of its size."""
        entry = self._lock().get(source)
        rows = [r for r in self.rows() if r.source == source]
        enough = entry and (entry["subjects"] is None or (subjects is not None and entry["subjects"] >= subjects))
        return bool(enough) and bool(rows) and not any(self.lost(rows))

    def lost(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Files that are not here, or have another size."""
        return (r for r in rows if not (p := self.root / r.path).is_file() or p.stat().st_size != r.bytes)

    def rows(self) -> list[Row]:
        """Files of the set, as they were fetched."""
        path = self._path("files.tsv")
        if not path.is_file():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as f:
                return [Row(**{**row, "bytes": int(row["bytes"])}) for row in csv.DictReader(f, delimiter="\t")]  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, KeyError) as e:
            raise DatasetError(f"{path} is damaged ({e}); delete it and fetch the set again") from e

    def add(self, source: str, rows: Iterable[Row]) -> None:
        """Replace the files of one file of the card."""
        kept = [r for r in self.rows() if r.source != source]
        text = io.StringIO()
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerow(f.name for f in fields(Row))
        table.writerows(map(astuple, sorted([*kept, *rows], key=lambda r: r.path)))
        self._write("files.tsv", text.getvalue())

    def _path(self, ending: str) -> Path:
        return self.root / f"{self.name}.{ending}"

    def _lock(self) -> dict[str, Any]:
        path = self._path("lock.json")
        if not path.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(path.read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DatasetError(f"{path} is damaged ({e}); delete it to trust the source anew") from e
        return found

    def _write(self, ending: str, text: str) -> None:
        write_atomic(self._path(ending), partial(_write_text, text=text))


def _stated(facts: Any) -> Any:  # noqa: ANN401 - JSON
    """Without what is not known."""
    if isinstance(facts, dict):
        return {k: _stated(v) for k, v in facts.items() if v not in (None, "", ())}
    return [_stated(v) for v in facts] if isinstance(facts, list | tuple) else facts


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
