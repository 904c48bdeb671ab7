"""`invdiff info`: what there is and what can be set, from the catalogue, without torch."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from invdiff import catalogue
from invdiff.config import suggest
from invdiff.errors import ConfigError
from invdiff_cli.prior import cards

Entry = dict[str, Any]


def info(
    name: Annotated[
        str | None,
        typer.Argument(help="solvers, acquisitions, noise, denoising, priors, steering, starts, or one name."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List solvers, priors and acquisitions, or show one with its settings."""
    everything = catalogue.load()
    if name is None or name in everything:
        chosen = everything if name is None else {name: everything[name]}
        print(
            json_module.dumps(chosen, indent=2)
            if json
            else "\n\n".join(map(_listing, *zip(*chosen.items(), strict=True)))
        )
        return
    group, entry = _find(everything, name.lower())
    print(json_module.dumps(entry, indent=2) if json else _detail(group, name.lower(), entry))


def _find(everything: dict[str, dict[str, Entry]], name: str) -> tuple[str, Entry]:
    for group, entries in everything.items():
        if name in entries:
            return group, entries[name]
    known = [*everything, *(n for entries in everything.values() for n in entries)]
    raise ConfigError(f"nothing is called {name!r}{suggest(name, known)}")


def _listing(group: str, entries: dict[str, Entry]) -> str:
    width = max(map(len, entries), default=0)
    return "\n".join(
        [f"{group}:", *(f"  {n:{width}}  {e.get('summary') or cards.line(e)}" for n, e in entries.items())]
    )


def _detail(group: str, name: str, entry: Entry) -> str:
    if group == "priors":
        return cards.text(entry, {"where": "ships", "sha256": entry["sha256"]})
    lines = [f"{name} ({group.removesuffix('s')}): {entry['summary']}"]
    lines += [f"  {k}: {entry[k]}" for k in ("gives", "paper", "noise_reference") if k in entry]
    if "needs" in entry:
        lines.append("  needs: " + ", ".join(f"{k} {v}" for k, v in entry["needs"].items()))
    return "\n".join(lines + [_setting(s) for s in entry["settings"]])


def _setting(s: Entry) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = ", ".join(f"{sign} {s[b]:g}" for b, sign in signs.items() if b in s)
    kind = " | ".join(map(str, s["choices"])) if "choices" in s else s["type"]
    kind += " or none" if s["optional"] and "choices" not in s else ""
    return f"  {s['name']} = {s['default']}  ({kind}{', ' + bounds if bounds else ''})  {s['doc']}"
