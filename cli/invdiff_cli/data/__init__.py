"""`invdiff data`: scans and sets to try things on, to train on and to test on, each with its card."""

from __future__ import annotations

import typer

from invdiff_cli.data import fetch, show

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Sample volumes and public sets: cards, fetching, splits. What lies in installed packages works offline.",
)
app.command("list", epilog="Example: invdiff data list")(show.list_)
app.command("info", epilog="Example: invdiff data info fastmri")(show.info)
app.command("fetch", epilog="Example: invdiff data fetch ixi --subset T1 --limit 20 --to data")(fetch.fetch)
app.command("files", epilog="Example: invdiff data files ixi --subset T1 --split train")(show.files)
