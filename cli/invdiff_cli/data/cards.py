"""Cards of data as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invdiff_datasets.base import Card, File

SPLITS = {
    "train": "what shipped priors were trained on: no figure measured on it is a result",
    "demo": "no shipped prior was trained on it: for demos, tests and figures, never for training one that ships",
    "by subject": "8 of 10 subjects train, 1 validates, 1 tests, by their names; NAME.files.tsv says who",
    "by file": "the source's own train, validation and test; NAME.files.tsv says which",
}


def row(card: Card, root: Path) -> dict[str, Any]:
    """What a list says of a card."""
    return {
        "name": card.name,
        "kind": card.kind,
        "title": card.title,
        "licence": card.licence,
        "bytes": _bytes(card),
        "split": card.split,
        "get": _how(card),
        "here": _here(card, root),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A list of cards."""
    lines = []
    for kind, title in (
        ("sample", "samples, inside installed packages: invdiff data fetch NAME --to ."),
        ("set", "public sets: invdiff data fetch NAME"),
        ("scan", "scans that priors were trained on or measured with; the card says where they lie"),
    ):
        some = [r for r in rows if r["kind"] == kind]
        cells = [
            (r["name"], size([r["bytes"]]) if r["bytes"] else "-", r["licence"], r["here"] or r["get"]) for r in some
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines.append(title)
        for r, cell in zip(some, cells, strict=True):
            told = "  ".join(f"{c:{w}}" for c, w in zip(cell, widths, strict=True)).rstrip()
            lines += [f"  {told}", f"      {r['title']}"]
        lines.append("")
    return "\n".join(lines[:-1])


def text(card: Card, root: Path) -> str:
    """A card in full."""
    rows = {
        "title": card.title,
        "about": card.description,
        "licence": card.licence,
        "to sign": card.registration or "nothing",
        "source": card.source,
        "cite": card.citation.whole if card.citation else "",
        "split": f"{card.split}: {SPLITS.get(card.split, '')}",
        "size": size([_bytes(card)]),
        "subsets": ", ".join(card.subsets),
        "checksums": f"sha256 {card.sha256}" if card.sha256 else _checksums(card),
        "get": _how(card),
        "here": _here(card, root) or "no",
    }
    lines = [f"{card.name} ({card.kind})"]
    for key, value in rows.items():
        if value:
            lines += textwrap.wrap(f"{key}: {value}", 118, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def size(sizes: Sequence[int | None]) -> str:
    """Of several files; what is not known of some is said."""
    known = [b for b in sizes if b is not None]
    unknown = len(sizes) - len(known)
    total = sum(known)
    told = f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.1f} MB" if total >= 1e5 else f"{total} bytes"
    if not known:
        return "size not known beforehand"
    return f"{told} and {unknown} of unknown size" if unknown else told


def _bytes(card: Card) -> int | None:
    if card.kind != "sample":
        return card.size
    found = [_inside(f) for f in card.files]
    return sum(b for b in found if b) if all(found) else None


def _inside(file: File) -> int | None:
    """Bytes of a sample's file; None where its package is not installed, or has another one."""
    from invdiff.errors import InvdiffError
    from invdiff_datasets.samples import inside

    try:
        with inside(file) as path:
            return path.stat().st_size
    except InvdiffError:
        return None


def _how(card: Card) -> str:
    if card.kind == "sample":
        return f"inside {(card.files[0].inside or '').partition('/')[0]}"
    if card.kind == "scan":
        return card.source
    if card.registration:
        own = not any(f.url for f in card.files)
        return "registration, then your own links" if own else "agreement with its terms, then open"
    return "open"


def _here(card: Card, root: Path) -> str:
    from invdiff_datasets.ledger import Ledger
    from invdiff_datasets.place import Place

    if card.kind == "sample":
        return f"here, {_how(card)}" if all(map(_inside, card.files)) else ""
    if card.kind == "scan":
        return ""
    if card.name == "openneuro":
        found = sorted(p.name.removesuffix(".card.json") for p in root.glob("ds*.card.json"))
        return f"here: {', '.join(found)}" if found else ""
    ledger = Ledger(Place.of(card, root))
    rows, lost = ledger.rows, len(ledger.lost(ledger.rows))
    parts = ", ".join(sorted({r.subset for r in rows} - {""}))
    whole = f"here: {len(rows)} files" + (f" ({parts})" if parts else "")
    return (f"{whole}, {lost} of them lost: fetch again" if lost else whole) if rows else ""


def _checksums(card: Card) -> str:
    told = f"from {card.checksums}" if card.checksums else ""
    if card.loader or not card.files:
        return told
    without = sum(1 for f in card.files if not f.checksum and not f.listed)
    if not without:
        return told
    first = f"{without} of {len(card.files)} files have none: that of the first fetch is kept, and held to from then on"
    return f"{told}; {first}" if told else first
