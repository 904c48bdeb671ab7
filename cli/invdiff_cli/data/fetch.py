"""`invdiff data fetch`: samples and public sets, to disk."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.errors import ConfigError
from invdiff_cli.data.cards import size
from invdiff_cli.data.links import checksums_in, links_in
from invdiff_cli.data.show import Name, Subset, To
from invdiff_cli.progress import transfer

if TYPE_CHECKING:
    from invdiff_datasets.base import Card
    from invdiff_datasets.choosing import Choice, Job


def fetch(
    name: Name,
    to: To = None,
    subset: Subset = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="The first N subjects only.", show_default=False)
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            envvar="INVDIFF_LINKS",
            help="Your own link to a file of the set, or a text file that has some, such as an e-mail; repeatable. "
            "Links are neither kept nor shown.",
            show_default=False,
        ),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="A file of the set that you have already; repeatable."),
    ] = None,
    checksums: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checksums from the source, as sha256sum writes them.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what was changed or added there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree with the licence without being asked.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document of the files.")] = False,
) -> None:
    """Copy a sample, or fetch a public set, resumably, hold it to its checksums and unpack it.

    Says licence and size before it starts. Writes NAME.card.json and NAME.CITATION.txt beside the data, and for sets
    NAME.lock.json (checksums) and NAME.files.tsv (subject and split of each file). Prints the folder.
    """
    from invdiff_datasets import find
    from invdiff_datasets.place import Place, data_folder

    card, root = find(name), to or data_folder()
    if card.kind == "sample":
        _no_flags(card, subset or limit or from_ or checksums)
        from invdiff_datasets import samples

        paths = samples.copy(card, Place.of(card, root))
        print(json_module.dumps([str(p) for p in paths], indent=2) if json else "\n".join(map(str, paths)))
        return
    if card.kind == "scan":
        raise ConfigError(f"invdiff does not fetch {name}; it lies in {card.source}, under {card.licence}")
    from invdiff_datasets.choosing import Choice

    choice = Choice(
        subsets=subset or (),
        limit=limit,
        links=links_in(link or []),
        archives=from_ or (),
        checksums=checksums_in(checksums) if checksums else {},
        force=force,
    )
    place, rows = _obtain(card, choice, root, yes=yes)
    print(json_module.dumps(rows, indent=2) if json else place)


def _no_flags(card: Card, given: object) -> None:
    if given:
        raise ConfigError(f"{card.name} is a sample inside an installed package; it takes --to alone")


def _obtain(card: Card, choice: Choice, root: Path, *, yes: bool) -> tuple[Path, list[dict[str, Any]]]:
    from invdiff_datasets.choosing import jobs
    from invdiff_datasets.obtain import obtain, resolved
    from invdiff_datasets.place import Place
    from invdiff_datasets.web import Patience

    patience = Patience()
    card = resolved(card, patience)
    wanted = jobs(card, choice)
    place = Place.of(card, root)
    _agree(card, wanted, place.folder, yes=yes)
    try:
        with transfer() as moves:
            rows = obtain(card, wanted, place, choice, patience=patience, say=_say, moves=moves)
    except KeyboardInterrupt:
        _say("interrupted; what was got is kept, the same command goes on from there")
        raise SystemExit(130) from None
    return place.folder, [asdict(row) for row in rows]


def _agree(card: Card, wanted: list[Job], folder: Path, *, yes: bool) -> None:
    """Say what it is, and under what terms; on a terminal ask."""
    total = size([job.file.bytes for job in wanted if not job.here])
    _say(f"{card.title}\nlicence: {card.licence}; source: {card.source}")
    if card.registration:
        _say(f"terms: {card.registration}")
    _say(f"{len(wanted)} files, {total}, into {folder}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to agree with the licence; pass --yes if you do")
    if not typer.confirm("Do you agree with the licence, and fetch?", err=True):
        raise ConfigError("not agreed; nothing was fetched")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
