"""Cards: what a stranger must know to find a scan, and what it may be used for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import yaml


@dataclass(frozen=True)
class Card:
    """One scan.

    Attributes:
        title: what it shows.
        source: where a stranger finds it.
        licence: SPDX name.
        sha256: checksum of the file as used here.
        split: `train`, or `demo` for scans that no shipped prior was trained on.
    """

    name: str
    title: str
    source: str
    licence: str
    sha256: str
    split: str


def cards() -> dict[str, Card]:
    """Every card, by the scan's name."""
    rows = yaml.safe_load((files("invdiff_datasets") / "scans.yaml").read_text())
    return {name: Card(name=name, **row) for name, row in rows.items()}
