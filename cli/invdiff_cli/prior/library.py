"""`invdiff prior list | info | install | remove`."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff import catalogue
from invdiff import library as priors
from invdiff.files import is_prior_file, sha256
from invdiff_cli.prior import cards

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Name = Annotated[str, typer.Argument(help="Name of an installed prior.", show_default=False)]


def list_(json: Json = False) -> None:
    """List the priors and bridges that ship, and those that are installed."""
    rows = [_shipped(name) for name in priors.all_shipped()]
    rows += [_installed(entry) for entry in priors.installed()]
    if json:
        keep = ("name", "where", "bytes", "sha256", "path", "units", "planes", "spacing", "licence", "note", "bridge")
        print(json_module.dumps([_flat(row, keep) for row in rows], indent=2))
        return
    table = [(card["name"], cards.kind(card), cards.voxels(card), f["where"], _size(f)) for card, f in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print("\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table))
    print(f"installed priors are kept in {priors.folder()}; research use only", file=sys.stderr)


def info(
    prior: Annotated[str, typer.Argument(help="Name of a prior, or a .safetensors file.", show_default=False)],
    json: Json = False,
) -> None:
    """Show a prior's card: what it was trained on, what it is for, and its file."""
    card, facts = _look_up(prior)
    print(json_module.dumps(card | facts, indent=2) if json else cards.text(card, facts))


def install(
    file: Annotated[Path, typer.Argument(help="A prior, .safetensors.", show_default=False)],
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="The checksum that it must have.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an installed prior of the same name.")] = False,
) -> None:
    """Check a prior and copy it to your data folder; then `--prior NAME` finds it. Prints the name."""
    print(priors.install(file, sha256=sha256, force=force).name)


def remove(name: Name) -> None:
    """Delete an installed prior."""
    priors.remove(name)


def _look_up(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if name in priors.all_shipped():
        return _shipped(name)
    path = priors.find(name)
    if not is_prior_file(name):
        return next(_installed(entry) for entry in priors.installed() if entry.name == name)
    from dataclasses import asdict

    from invdiff.priors.checkpoints import read_card

    card = asdict(read_card(path))
    return card, {"where": "file", "path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def _shipped(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """From the catalogue, so that no weights are read."""
    card = dict(catalogue.load()["priors"][name])
    return card, {"where": "ships", "bytes": priors.find(name).stat().st_size, "sha256": card.pop("sha256")}


def _installed(entry: priors.Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    facts = {"where": "installed", "path": str(entry.path), "bytes": entry.bytes, "sha256": entry.sha256}
    return entry.card, facts


def _flat(row: tuple[dict[str, Any], dict[str, Any]], keep: tuple[str, ...]) -> dict[str, Any]:
    both = row[0] | row[1] | {"channels": row[0]["config"]["in_channels"]}
    return {k: both[k] for k in (*keep, "channels") if k in both}


def _size(facts: dict[str, Any]) -> str:
    return f"{facts['bytes'] / 1e6:.1f} MB"
