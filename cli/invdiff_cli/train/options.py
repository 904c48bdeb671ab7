"""Options that training a prior and training a bridge share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Sources = Annotated[
    list[str],
    typer.Argument(help="NIfTI volumes, folders of them, or `ellipses` for random phantoms.", show_default=False),
]
Planes = Annotated[Literal["all", "0", "1", "2"], typer.Option(help="Slices of all planes, or across one stored axis.")]
Window = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Stored values that become 0 and 1, e.g. -1000 1000 for HU; else each volume's own scale."),
]
Labels = Annotated[
    list[Path] | None, typer.Option(help="Label map, painted in random contrasts and mixed in; repeatable.")
]
Holdout = Annotated[
    float,
    typer.Option(help="Fraction of each volume that only validation sees, a slab in its middle.", min=0.0, max=0.5),
]
Name = Annotated[str, typer.Option(help="Name on the card; else the file's.")]
Licence = Annotated[str, typer.Option(help="Licence of the weights, for the card.")]
CheckpointEvery = Annotated[int, typer.Option(help="Steps between checkpoints and validations.", min=1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing outputs.")]
