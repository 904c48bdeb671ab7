"""Where a set lies, and what stands beside it.

In the folder that the user chose, NAME holds the files of a set, and beside it lie

    NAME.card.json      the card
    NAME.CITATION.txt   title, licence, source and what to cite
    NAME.lock.json      size and SHA-256 of all that was fetched: what is fetched again is held to it
    NAME.files.tsv      each file, with its subject and split
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from invdiff.errors import DatasetError, FileError
from invdiff.files import locked, write_text
from invdiff_datasets.base import Card


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

    def beside(self, ending: str) -> Path:
        """A file that stands beside the set."""
        return self.root / f"{self.name}.{ending}"

    def make(self) -> None:
        """Make the folder; raises FileError where that is not possible."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise FileError(f"cannot make the folder {self.root}: {e.strerror}") from e

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One fetch at a time; the lock of a process that died is none. Raises DatasetError when there is another."""
        with locked(self.root / f".{self.name}.lock", wait=False) as alone:
            if not alone:
                raise DatasetError(f"{self.name} is being fetched into {self.root} already; wait for that fetch")
            yield

    def describe(self, card: Card) -> None:
        """Write the card and the citation."""
        self.write("card.json", json.dumps(_stated(asdict(card)), indent=1) + "\n")
        cite = [f"Cite: {card.citation.whole}"] if card.citation else []
        lines = [card.title, f"Licence: {card.licence}", f"Source: {card.source}", *cite]
        self.write("CITATION.txt", "\n".join(lines) + "\n")

    def write(self, ending: str, text: str) -> None:
        """Write a file beside the set, atomically."""
        write_text(self.beside(ending), text)


def _stated(facts: Any) -> Any:  # noqa: ANN401 - JSON
    """Without what is not known."""
    if isinstance(facts, dict):
        return {k: _stated(v) for k, v in facts.items() if v not in (None, "", ())}
    return [_stated(v) for v in facts] if isinstance(facts, list | tuple) else facts
