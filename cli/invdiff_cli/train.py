"""`invdiff train`: a prior from your own volumes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from invdiff.errors import ConfigError, FileError
from invdiff.files import check_outputs, sha256, write_atomic
from invdiff_cli.flags import assignments

if TYPE_CHECKING:
    from invdiff.training.denoiser import DenoiserTraining, Training
    from invdiff.training.validation import Validation
    from invdiff_datasets.training import Data

app = typer.Typer(no_args_is_help=True, help="Train on your own volumes.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `prior` a sub-command although it is the only one so far."""


@app.command("prior", epilog="Example: invdiff train prior scans/ -o my-prior.safetensors --steps 10000")
def prior(
    data: Annotated[
        list[str],
        typer.Argument(help="NIfTI volumes, folders of them, or `ellipses` for random phantoms.", show_default=False),
    ],
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
    planes: Annotated[
        Literal["all", "0", "1", "2"], typer.Option(help="Slices of all planes, or across one stored axis.")
    ] = "all",
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Stored values that become 0 and 1, e.g. -1000 1000 for HU; else each volume's own scale."),
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label map, painted in random contrasts and mixed in; repeatable.")
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(help="Fraction of each volume that only validation sees, a slab in its middle.", min=0.0, max=0.5),
    ] = 0.08,
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
    name: Annotated[str, typer.Option(help="Name on the card; else the file's.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the card.")] = "",
    start: Annotated[
        str | None, typer.Option(help="Go on from a prior's weights, a name or a file, with a fresh optimiser.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints and validations.", min=1)] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Train a denoiser on random crops of volumes, 2-D slices of any size.

    Writes the prior and a .png beside it: held-out crops, noisy and denoised, and unconditional samples. A killed run
    goes on from OUTPUT's .checkpoint to the same weights. On a terminal or in a log: progress, time left, and at each
    checkpoint the error left on held-out crops, as a fraction of the noise, for six noise levels.
    """
    if not output.name.endswith(".safetensors"):
        raise ConfigError(f"{output}: a prior is written as .safetensors; choose this ending")
    check_outputs([output, picture(output)], force=force)
    from invdiff import config
    from invdiff.library import find
    from invdiff.training.denoiser import DenoiserTraining
    from invdiff_datasets.training import sources

    settings = config.build(DenoiserTraining, {"steps": steps, "seed": seed, **assignments(set_ or [])})
    how: dict[str, Any] = {"channels": int(channels), "phase": phase, "window": window, "holdout": holdout}
    how["planes"] = planes if planes == "all" else int(planes)
    found = sources(data, labels=labels or (), **how)
    begun_from = find(start) if start else None
    run = _Run(output, settings, how, found, begun_from, checkpoint_every, device)
    run.train()
    run.save(name or output.name.removesuffix(".safetensors"), licence)


def picture(output: Path) -> Path:
    """`mine.safetensors` -> `mine.png`."""
    return output.with_suffix(".png")


class _Run:
    """One training run and its files."""

    def __init__(
        self,
        output: Path,
        settings: DenoiserTraining,
        how: dict[str, Any],
        data: Data,
        start: Path | None,
        every: int,
        device: str,
    ) -> None:
        from invdiff.reconstruction import pick_device
        from invdiff.training.validation import Validation

        self.output, self.settings, self.data, self.start, self.every = output, settings, data, start, every
        self.facts = {**how, "scans": data.scans}
        self.saved = output.with_suffix(".checkpoint")
        self.device = pick_device(device)
        self.validation: Validation = Validation.of(data.validation, settings.crop, settings.seed)
        self.state: Training = self._resume() if self.saved.exists() else self._begin()

    def train(self) -> None:
        """All steps that are left; a checkpoint and a line of validation now and then."""
        from invdiff.priors.network import pick_dtype
        from invdiff.training.denoiser import train
        from invdiff_cli.progress import progress

        bf16 = "bfloat16" in str(pick_dtype("auto", self.device))
        with progress("training", self.settings.steps - self.state.step, every=30.0) as tick:
            for state in train(self.data.train, self.settings, self.state, bf16=bf16):
                tick(state)
                if state.step % self.every == 0 and state.step < self.settings.steps:
                    self._checkpoint()
                    print(self._line(), file=sys.stderr, flush=True)

    def save(self, name: str, licence: str) -> None:
        """The prior with its card, and the picture; then the checkpoint goes."""
        from invdiff.priors import checkpoints
        from invdiff_cli.report.priors import training_picture

        state, settings = self.state, self.settings
        levels = self.validation.losses(state.ema, state.std)
        training = asdict(settings) | {k: v for k, v in self.facts.items() if k != "scans"}
        training |= {"validation": {f"{s:g}": round(v, 4) for s, v in levels.items()}}
        training |= {"start_sha256": sha256(self.start)} if self.start else {}
        window = self.facts["window"]
        card = checkpoints.Card(
            name=name,
            licence=licence,
            architecture=type(state.ema).__name__.lower(),
            config=state.ema.config,
            mean=round(state.mean, 6),
            std=round(state.std, 6),
            units={"window": window and list(window), "range": [0.0, 1.0]},
            planes=str(self.facts["planes"]),
            spacing=self.data.spacing,
            scans=self.data.scans,
            training=training,
        )
        training_picture(picture(self.output), state.ema, card, self.validation)
        checkpoints.save(self.output, state.ema, card)
        self.saved.unlink(missing_ok=True)

    def _begin(self) -> Training:
        from invdiff.priors import checkpoints
        from invdiff.training.denoiser import begin, network

        channels = self.data.train.channels
        net = checkpoints.load(self.start)[0] if self.start else network(channels, self.settings)
        if net.config["in_channels"] != channels:
            raise ConfigError(
                f"{self.start} has {net.config['in_channels']} channel(s), this run {channels}; use another start"
            )
        return begin(self.data.train, self.settings, net.to(self.device).requires_grad_())

    def _resume(self) -> Training:
        from safetensors import SafetensorError

        from invdiff.training import checkpoints

        try:
            state, settings, facts = checkpoints.load(self.saved)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
            raise FileError(f"{self.saved} is no readable checkpoint; delete it to begin again") from e
        if settings != self.settings:
            raise ConfigError(f"{self.saved} belongs to a run with other settings ({settings}); delete it or use these")
        if facts != checkpoints.plain(self.facts):
            raise ConfigError(f"{self.saved} belongs to a run on other data; delete it or name the same volumes")
        return checkpoints.to(state, self.device)

    def _checkpoint(self) -> None:
        from safetensors.torch import save_file

        from invdiff.training import checkpoints

        content = checkpoints.tensors(self.state), checkpoints.metadata(self.state, self.settings, self.facts)
        write_atomic(self.saved, lambda p: save_file(content[0], p, content[1]))

    def _line(self) -> str:
        levels = self.validation.losses(self.state.ema, self.state.std)
        errors = ", ".join(f"{v:.3f} at {s:g}" for s, v in levels.items())
        return f"step {self.state.step}/{self.settings.steps}, loss {self.state.loss:.4f}; error left: {errors}"
