"""`invdiff data list | info | files`: what there is, and what is here."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from invdiff.errors import ConfigError
from invdiff_cli.data import cards

Name = Annotated[str, typer.Argument(help="Name of a card, or openneuro:ds000001@1.0.0.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
To = Annotated[
    Path | None,
    typer.Option("--to", metavar="DIR", help="Folder. [INVDIFF_DATA_DIR, or your data folder]", show_default=False),
]
Subset = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="A part of the set; repeatable. [all]", show_default=False)
]


def list_(json: Json = False) -> None:
    """List all data that there are cards of: how to get it, and whether it is here."""
    import invdiff_datasets
    from invdiff_datasets.place import data_folder

    rows = [cards.row(card, data_folder()) for card in (invdiff_datasets.cards() | invdiff_datasets.sets()).values()]
    if json:
        print(json_module.dumps(rows, indent=2))
        return
    print(cards.table(rows))
    print(f"sets are kept in {data_folder()}; research use only", file=sys.stderr)


def info(name: Name, json: Json = False) -> None:
    """Show a card in full: what it is, its licence, what to cite, what to sign, what may be done with it."""
    from invdiff_datasets import find
    from invdiff_datasets.place import data_folder

    card = find(name)
    print(json_module.dumps(asdict(card), indent=2) if json else cards.text(card, data_folder()))


def files(
    name: Name,
    to: To = None,
    subset: Subset = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test; all by default.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Print the files of a set that was fetched, one a line: invdiff train prior $(invdiff data files ixi ...)."""
    from invdiff_datasets import find
    from invdiff_datasets.choosing import of_subsets
    from invdiff_datasets.ledger import Ledger
    from invdiff_datasets.place import Place, data_folder

    place = Place.of(find(name), to or data_folder())
    rows = Ledger(place).rows
    if not rows:
        raise ConfigError(f"no files of {place.name} in {place.root}; fetch them: invdiff data fetch {name}")
    known = {"split": {r.split for r in rows}, "subset": {p for r in rows for p in (r.subset, *r.subset.split("/"))}}
    for kind, asked in (("split", [split] if split else []), ("subset", subset or [])):
        if unknown := set(asked) - known[kind]:
            there = ", ".join(sorted(known[kind] - {""})) or "none"
            raise ConfigError(f"no {kind} {min(unknown)!r} of {place.name} is here; there are: {there}")
    chosen = [
        r for r in rows if split in (None, r.split) and (not subset or (r.subset and of_subsets(r.subset, subset)))
    ]
    listed = [asdict(r) | {"path": str(place.root / r.path)} for r in chosen]
    print(json_module.dumps(listed, indent=2) if json else "\n".join(r["path"] for r in listed))
