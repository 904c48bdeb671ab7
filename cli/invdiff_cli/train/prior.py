"""`invdiff train prior`: a denoiser for images like yours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from invdiff_cli.flags import assignments
from invdiff_cli.train.options import (
    CheckpointEvery,
    Device,
    Force,
    Holdout,
    Labels,
    Licence,
    Name,
    Planes,
    Sources,
    Window,
)
from invdiff_cli.train.run import Run, check_output, picture

if TYPE_CHECKING:
    from invdiff.networks import Network
    from invdiff.priors.checkpoints import Card
    from invdiff.training.denoiser import DenoiserTraining
    from invdiff.training.validation import Validation


def prior(
    data: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Prior to write, .safetensors.", show_default=False)],
    steps: Annotated[
        int, typer.Option(help="Optimiser steps: on one core 0.4 s each with AMX, 1.1 s without.", min=1)
    ] = 10_000,
    channels: Annotated[
        Literal["1", "2"], typer.Option(help="1: magnitudes or Hounsfield units; 2: complex images.")
    ] = "1",
    phase: Annotated[
        Literal["simulated", "frames"],
        typer.Option(help="With 2 channels: a smooth random phase, or two frames that are real and imaginary part."),
    ] = "simulated",
    planes: Planes = "all",
    window: Window = None,
    labels: Labels = None,
    holdout: Holdout = 0.08,
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and noise.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="batch, crop, grow_at, learning_rate, decay_from, ema, "
            "log_sigma_mean, log_sigma_std or width; repeatable.",
        ),
    ] = None,
    name: Name = "",
    licence: Licence = "",
    start: Annotated[
        str | None, typer.Option(help="Go on from a prior's weights, a name or a file, with a fresh optimiser.")
    ] = None,
    checkpoint_every: CheckpointEvery = 500,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Train a denoiser on random crops of volumes, 2-D slices of any size.

    Writes the prior and a .png beside it: held-out crops, noisy and denoised, and unconditional samples. A killed run
    goes on from OUTPUT's .checkpoint to the same weights. On a terminal or in a log: progress, time left, and at each
    checkpoint the error left on held-out crops, as a fraction of the noise, for six noise levels.
    """
    check_output(output, force=force)
    from invdiff import config
    from invdiff.library import find
    from invdiff.training.denoiser import DenoiserTraining
    from invdiff_datasets.training import sources

    settings = config.build(DenoiserTraining, {"steps": steps, "seed": seed, **assignments(set_ or [])})
    how: dict[str, Any] = {"channels": int(channels), "phase": phase, "window": window, "holdout": holdout}
    how["planes"] = planes if planes == "all" else int(planes)
    found = sources(data, labels=labels or (), **how)
    begun_from = find(start) if start else None
    run = PriorRun(output, settings, how, found, begun_from, checkpoint_every, device)
    run.train()
    run.save(name, licence)


class PriorRun(Run):
    """A denoiser at random noise levels."""

    def __init__(self, output: Path, settings: DenoiserTraining, *rest: Any) -> None:  # noqa: ANN401 - as of Run
        from invdiff.training.denoiser import denoising
        from invdiff.training.validation import Validation

        super().__init__(output, settings, *rest)
        self.task = denoising(settings)
        self.validation: Validation = Validation.of(self.data.validation, settings.crop, settings.seed)

    def network(self) -> Network:
        """Fresh, or that of another prior."""
        return self.begun(self.data.train.channels)

    def card(self, common: dict[str, Any]) -> Card:
        """A prior's."""
        from invdiff.priors.checkpoints import Card

        return Card(**common)

    def draw(self, card: Card) -> None:
        """Crops denoised, and unconditional samples."""
        from invdiff_cli.report.priors import training_picture

        training_picture(picture(self.output), self.state.ema, card, self.validation)
