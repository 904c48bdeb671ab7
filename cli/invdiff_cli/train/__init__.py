"""`invdiff train`: priors and bridges from your own volumes."""

from __future__ import annotations

import typer

from invdiff_cli.train.bridge import bridge
from invdiff_cli.train.prior import prior

app = typer.Typer(no_args_is_help=True, help="Train on your own volumes.", rich_markup_mode=None)
app.command("prior", epilog="Example: invdiff train prior scans/ -o my-prior.safetensors --steps 10000")(prior)
app.command(
    "bridge",
    epilog="Example: invdiff train bridge scans/ --acquisition mri --set acquisition.acceleration=4..8 "
    "-o my-bridge.safetensors --start brain-mr-complex",
)(bridge)
