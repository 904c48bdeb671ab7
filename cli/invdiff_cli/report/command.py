"""`invdiff report`: a run as pages that need no network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from invdiff.errors import ConfigError
from invdiff.files import all_or_none, check_outputs


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="What batch, demo, reconstruct or denoise wrote.", show_default=False),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page to write, .html. [DIR/report.html]", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What the one scan in DIR should be; gives the error.", show_default=False)
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="An image of it to compare with, e.g. zero-filled.", show_default=False),
    ] = None,
    frame: Annotated[int, typer.Option(help="Frame of a series that is shown.", min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace existing pages.")] = False,
) -> None:
    """Show a run: planes of reference, input, reconstruction, error and uncertainty, a viewer, metrics, provenance.

    Each page is one file that works without a network. A run of several subjects has a page for each beside the first,
    as report_NAME.html.
    """
    output = output or folder / "report.html"
    if output.suffix.lower() != ".html":
        raise ConfigError(f"{output}: a report is written as .html; choose this ending")
    from invdiff_cli.report import cases

    run = cases.read(folder, reference=reference, direct=input_)
    from invdiff_cli.report.leaves import leaves
    from invdiff_cli.report.page import render

    names = dict.fromkeys([output.name, *(leaf.file for leaf in leaves(run, output))])
    check_outputs([output.with_name(name) for name in names], force=force)
    with all_or_none(output.parent) as draft:
        for name, text in render(run, output, frame=frame):
            (draft / name).write_text(text, "utf-8")
    print(f"report: {output}" + (f" and {len(names) - 1} beside it" if len(names) > 1 else ""), file=sys.stderr)
