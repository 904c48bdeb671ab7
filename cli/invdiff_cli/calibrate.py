"""`invdiff calibrate`: intervals that cover what they say, learned from scans with truth."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.errors import ConfigError
from invdiff.files import check_outputs

if TYPE_CHECKING:
    from invdiff.calibration import Calibration, Check, Scan


def calibrate(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECON...",
            help="Reconstructions with their *_std and .json beside them, or folders of `invdiff batch`.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        list[Path] | None, typer.Option(help="The truth of each reconstruction, in the same order.", show_default=False)
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(help="Where voxels count, of each. [what is not air in the reconstruction]", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Calibration to write, .json.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Learn nothing: hold this calibration to the scans.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a .png: coverage and PIT histogram, before and after.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Learn how much wider intervals must be, from reconstructions whose truth is known.

    `invdiff reconstruct --calibration` applies it. The table is of subjects that were left out in turn, or of blocks of
    slices where there is one subject; with --check it is of all. Widths are fractions of the intensity unit.
    """
    if (output is None) == (check is None):
        raise ConfigError("give -o calibration.json to learn one, or --check calibration.json to hold one to scans")
    for path, ending in ((output, ".json"), (picture, ".png")):
        if path and path.suffix != ending:
            raise ConfigError(f"{path}: it is written as {ending}; choose this ending")
    check_outputs([path for path in (output, picture) if path], force=force)
    from invdiff import calibration
    from invdiff_cli import truths

    known = calibration.load(check) if check else None
    scans = truths.scans(results, reference or [], mask or [])
    if check and known:
        _warn(check.name, known, scans)
        done = known, calibration.check(known, scans)
    else:
        done = calibration.learn(scans)
    if output:
        calibration.save(output, done[0], force=force)
    if picture:
        from invdiff_cli.report.calibration import curves

        curves(picture, done[1], _told(*done, learned=known is None))
    print(json_module.dumps(_content(*done), indent=2) if json else _table(*done, learned=known is None))


def _warn(name: str, known: Calibration, scans: list[Scan]) -> None:
    """Say of each scan what keeps the check from being one."""
    learned = {row["sha256"] for row in known.scans}
    for scan in scans:
        if scan.sha256 in learned:
            print(f"invdiff: warning: {name} was learned from {scan.name}: no test of it", file=sys.stderr)
        if others := known.differences(scan.method):
            print(f"invdiff: warning: {name} was learned with {'; '.join(others)} ({scan.name})", file=sys.stderr)


def _content(known: Calibration, found: Check) -> dict[str, Any]:
    return {"calibration": asdict(known), **asdict(found), "intended_use": "research only"}


def _table(known: Calibration, found: Check, *, learned: bool) -> str:
    """A line per level, then the other figures of merit, the spread over slices, and of what they are."""
    rows = [("nominal", "before", "after", "factor (slices)")]
    factors = dict(zip(known.levels, zip(known.factors, known.low, known.high, strict=True), strict=True))
    covered = zip(found.before["levels"], found.before["coverage"], found.after["coverage"], strict=True)
    for level, before, after in covered:
        one, low, high = factors[level]
        rows.append((f"{100 * level:g} %", f"{before:.3f}", f"{after:.3f}", f"{one:.2f} ({low:.2f} to {high:.2f})"))
    names = {"miscalibration": "mean miss", "crps": "CRPS", "width90": "90 % width", "spread": "68 % half-width"}
    rows += [(text, f"{found.before[k]:.4f}", f"{found.after[k]:.4f}", "") for k, text in names.items()]
    if len(found.scans) > 1:
        rows += [(f"90 % in {r['name']}", f"{r['before']:.3f}", f"{r['after']:.3f}", "") for r in found.scans]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([f"{a:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(r, widths[1:], strict=True))]).rstrip()
             for a, *r in rows]  # fmt: skip
    return "\n".join([*lines, _told(known, found, learned=learned)])


def _told(known: Calibration, found: Check, *, learned: bool) -> str:
    """What the figures are of."""
    low, high = found.most
    what = f"left out in turn: {known.held_out}" if learned else "a calibration that was learned elsewhere"
    counted = f"{len(found.slices['after'])} slices, {found.after['voxels']} voxels"
    return f"{counted}; {what}; the 90 % interval covers {low:.3f} to {high:.3f} of eight in ten slices"
