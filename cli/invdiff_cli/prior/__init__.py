"""`invdiff prior`: the priors on this computer, and whether one is right for a volume."""

from __future__ import annotations

import typer

from invdiff_cli.prior import check, convert, library

app = typer.Typer(
    no_args_is_help=True, help="List, install, convert and check priors; works offline.", rich_markup_mode=None
)
app.command("list", epilog="Example: invdiff prior list")(library.list_)
app.command("info", epilog="Example: invdiff prior info brain-mr")(library.info)
app.command("install", epilog="Example: invdiff prior install knee.safetensors")(library.install)
app.command("remove", epilog="Example: invdiff prior remove knee")(library.remove)
app.command("check", epilog="Example: invdiff prior check brain-mr scan.nii.gz")(check.check)
app.command("convert", epilog="Example: invdiff prior convert ffhq_10m.pt -o ffhq.safetensors")(convert.convert)
