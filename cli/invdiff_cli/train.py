"""`invdiff train`: a prior from your own volumes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.errors import ConfigError, FileError
from invdiff.files import check_outputs, sha256, write_atomic

if TYPE_CHECKING:
    from invdiff.training.denoiser import DenoiserTraining, Training

app = typer.Typer(no_args_is_help=True, help="Train on your own volumes.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `prior` a sub-command although it is the only one so far."""


@app.command("prior", epilog="Example: invdiff train prior scans/ -o my-prior.safetensors --steps 10000")
def prior(
    data: Annotated[list[Path], typer.Argument(help="NIfTI volumes, or folders of them.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Prior to write, .safetensors.", show_default=False)],
    steps: Annotated[
        int, typer.Option(help="Optimiser steps, about 0.4 s each on one core with bf16.", min=1)
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and noise.")] = 0,
    name: Annotated[str, typer.Option(help="Name on the card; else the file's.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the card.")] = "",
    start: Annotated[Path | None, typer.Option(help="Go on from this prior's weights, with a fresh optimiser.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 6e-4,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
) -> None:
    """Train a denoiser on random crops of volumes. A killed run goes on from OUTPUT's .checkpoint beside it."""
    if not output.name.endswith(".safetensors"):
        raise ConfigError(f"{output}: a prior is written as .safetensors; choose this ending")
    check_outputs([output], force=force)
    from invdiff import config
    from invdiff.training.denoiser import DenoiserTraining

    settings = config.build(DenoiserTraining, {"steps": steps, "seed": seed, "learning_rate": learning_rate})
    label = {"name": name or output.name.removesuffix(".safetensors"), "licence": licence}
    _train(_volumes(data), output, settings, start, label, checkpoint_every)


def _volumes(data: list[Path]) -> list[Path]:
    found: list[Path] = []
    for item in data:
        found += sorted(p for p in item.rglob("*") if p.name.endswith((".nii", ".nii.gz"))) if item.is_dir() else [item]
    if not found:
        raise FileError(f"no .nii or .nii.gz volumes in {', '.join(map(str, data))}")
    return found


def _train(
    paths: list[Path],
    output: Path,
    settings: DenoiserTraining,
    start: Path | None,
    label: dict[str, str],
    checkpoint_every: int,
) -> None:
    import torch
    from safetensors import SafetensorError

    from invdiff.networks.unet import UNet
    from invdiff.priors import checkpoints as priors
    from invdiff.priors.network import pick_dtype
    from invdiff.training import checkpoints
    from invdiff.training.crops import Crops
    from invdiff.training.denoiser import begin, train

    crops, spacings = _crops(paths, Crops)
    saved = output.with_suffix(".checkpoint")
    if saved.exists():
        try:
            state, begun = checkpoints.load(saved)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
            raise FileError(f"{saved} is no readable checkpoint; delete it to begin again") from e
        if begun != settings:
            raise ConfigError(f"{saved} belongs to a run with other settings ({begun}); delete it or use these")
    else:
        torch.manual_seed(settings.seed)
        state = begin(crops, settings, priors.load(start)[0] if start else UNet())
    bf16 = pick_dtype("auto", torch.device("cpu")) is torch.bfloat16
    began, first, last = time.monotonic(), state.step, time.monotonic()
    for _ in train(crops, settings, state, bf16=bf16):
        if state.step % checkpoint_every == 0:
            _checkpoint(saved, state, settings)
        if time.monotonic() - last > 30:
            last = time.monotonic()
            left = (last - began) / (state.step - first) * (settings.steps - state.step)
            text = f"step {state.step}/{settings.steps}, loss {state.loss:.4f}, {left / 60:.0f} min left"
            print(text, file=sys.stderr, flush=True)
    priors.save(output, state.ema, _card(label, state, settings, start, paths, spacings))
    saved.unlink(missing_ok=True)


def _crops(paths: list[Path], make: Any) -> tuple[Any, list[tuple[float, float, float]]]:  # noqa: ANN401
    from invdiff import volumes

    frames, spacings = [], []
    for path in paths:
        volume = volumes.load(path)
        frames += list(volume.data)
        spacings += [volume.spacing] * len(volume.data)
    return make(frames, spacings), spacings


def _checkpoint(path: Path, state: Training, settings: DenoiserTraining) -> None:
    from safetensors.torch import save_file

    from invdiff.training import checkpoints

    content = checkpoints.tensors(state), checkpoints.metadata(state, settings)
    write_atomic(path, lambda p: save_file(content[0], p, content[1]))


def _card(
    label: dict[str, str],
    state: Training,
    settings: DenoiserTraining,
    start: Path | None,
    paths: list[Path],
    spacings: list[tuple[float, float, float]],
) -> Any:  # noqa: ANN401 - a Card; its module imports torch
    from dataclasses import asdict

    from invdiff.priors.checkpoints import Card

    sizes = [mm for s in spacings for mm in s]
    return Card(
        name=label["name"],
        licence=label["licence"],
        config=state.net.config,
        mean=round(state.mean, 6),
        std=round(state.std, 6),
        spacing=[round(min(sizes), 3), round(max(sizes), 3)],
        scans=[{"file": p.name, "sha256": sha256(p)} for p in paths],
        training=asdict(settings) | ({"start_sha256": sha256(start)} if start else {}),
    )
