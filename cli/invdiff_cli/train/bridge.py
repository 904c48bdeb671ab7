"""`invdiff train bridge`: from degraded images to clean ones, for a family of acquisitions."""

from __future__ import annotations

from dataclasses import asdict
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
    from invdiff.bridges import Family
    from invdiff.networks import Network
    from invdiff.priors.checkpoints import Card
    from invdiff.training.bridge import BridgeTraining
    from invdiff.training.validation import BridgeValidation

OF_ACQUISITION = "acquisition."


def bridge(
    data: Sources,
    acquisition: Annotated[
        str, typer.Option(help="What degrades the images: `invdiff info acquisitions` lists them.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bridge to write, .safetensors.", show_default=False)],
    steps: Annotated[
        int, typer.Option(help="Optimiser steps: on one core 0.4 s each with AMX, 1.2 s without.", min=1)
    ] = 5_000,
    noise: Annotated[
        str, typer.Option(help="Fraction of the acquisition's noise reference, a number or a range: 0.005..0.02.")
    ] = "0.01",
    process: Annotated[
        Literal["i2sb", "ot-ode", "indi"], typer.Option(help="Noisy, its deterministic limit, or a straight line.")
    ] = "i2sb",
    conditional: Annotated[
        bool, typer.Option("--conditional", help="Show the network the degraded image at every time; i2sb only.")
    ] = False,
    planes: Planes = "all",
    window: Window = None,
    labels: Labels = None,
    holdout: Holdout = 0.08,
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and degradations.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="acquisition.KEY, a value, a range 4..8 or choices random,equispaced; or batch, crop, grow_at, "
            "learning_rate, decay_from, ema, beta_max, spread or width; repeatable.",
        ),
    ] = None,
    name: Name = "",
    licence: Licence = "",
    start: Annotated[
        str | None, typer.Option(help="Go on from the weights of a prior or a bridge, a name or a file: much faster.")
    ] = None,
    checkpoint_every: CheckpointEvery = 500,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Train a bridge (I2SB) from direct reconstructions, such as zero-filling, to clean images, 2-D slices of any size.

    Each step degrades clean crops by an acquisition and a noise level drawn from the given ranges. Writes the bridge
    and a .png beside it: held-out crops, degraded and restored. A killed run goes on from OUTPUT's .checkpoint to the
    same weights. In a log, at each checkpoint: the error left on held-out crops, as a fraction of that of the state,
    at four times of the way; 1 is the degraded end.
    """
    check_output(output, force=force)
    from invdiff import config
    from invdiff.bridges import Family
    from invdiff.library import find
    from invdiff.training.bridge import BridgeTraining
    from invdiff_datasets.training import sources

    given = assignments(set_ or [])
    own = {k: v for k, v in given.items() if not k.startswith(OF_ACQUISITION)}
    family = Family(acquisition, {k.removeprefix(OF_ACQUISITION): v for k, v in given.items() if k not in own}, noise)
    settings = config.build(
        BridgeTraining, {"steps": steps, "seed": seed, "process": process, "conditional": conditional, **own}
    )
    settings.way()
    how: dict[str, Any] = {"channels": family.channels, "window": window, "holdout": holdout}
    how["planes"] = planes if planes == "all" else int(planes)
    found = sources(data, labels=labels or (), **how)
    begun_from = find(start) if start else None
    how["family"] = asdict(family)
    run = BridgeRun(family, output, settings, how, found, begun_from, checkpoint_every, device)
    run.train()
    run.save(name, licence)


class BridgeRun(Run):
    """A network that finds the clean end from any point of the way."""

    def __init__(self, family: Family, output: Path, settings: BridgeTraining, *rest: Any) -> None:  # noqa: ANN401 - as of Run
        from invdiff.priors.scaling import Units
        from invdiff.training.bridge import Degradation, bridging
        from invdiff.training.validation import BridgeValidation

        self.family, self.conditional = family, settings.conditional
        super().__init__(output, settings, *rest)
        degrade = Degradation(family, Units(self.facts["window"]), self.data.spacing)
        self.task = bridging(settings, degrade)
        self.validation: BridgeValidation = BridgeValidation.of(self.data.validation, settings, degrade)

    def network(self) -> Network:
        """Fresh, or that of a prior or a bridge; with as many channels again where it is shown x1."""
        from invdiff.training.bridge import widened

        channels = self.data.train.channels
        seen = 2 * channels if self.conditional else channels
        net = self.begun(channels, seen)
        return net if net.config["in_channels"] == seen else widened(net, seen)

    def card(self, common: dict[str, Any]) -> Card:
        """A bridge's."""
        from invdiff.priors.checkpoints import Card

        names = ("process", "beta_max", "spread", "conditional")
        how = {name: common["training"][name] for name in names}
        return Card(**common, parameterisation="bridge", bridge=how | {"family": asdict(self.family)})

    def draw(self, card: Card) -> None:
        """Crops degraded and restored."""
        from invdiff_cli.report.priors import bridge_picture

        bridge_picture(picture(self.output), self.state.ema, card, self.validation)
