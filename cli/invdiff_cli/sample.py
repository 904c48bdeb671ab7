"""`invdiff sample`: what a prior has learned, as images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from invdiff.errors import ConfigError
from invdiff.files import all_or_none, check_outputs, sha256
from invdiff_cli import runs

if TYPE_CHECKING:
    from invdiff.sampling import Samples


def sample(
    prior: Annotated[str, typer.Argument(help="Name of a prior, or a .safetensors file.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: .png, .nii or .nii.gz.", show_default=False),
    ],
    samples: Annotated[int, typer.Option(help="How many.", min=1)] = 16,
    size: Annotated[tuple[int, int], typer.Option(metavar="ROWS COLUMNS", help="Voxels of a sample.")] = (128, 128),
    steps: Annotated[int, typer.Option(help="Noise levels, one network call each.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="First seed; sample n uses seed + n.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Network precision.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Draw images from a prior alone: a grid of them, or a volume of slices, and a .json that says how.

    Images of complex priors are magnitudes. A volume holds stored units (e.g. Hounsfield) where the prior has a
    window, else units in which the brightest tissue is about 1; these are no scans of anybody.
    """
    if not output.name.endswith((".png", ".nii", ".nii.gz")):
        raise ConfigError(f"{output}: samples are written as .png, .nii or .nii.gz; choose one of these endings")
    if min(size) < 1:
        raise ConfigError(f"--size {size[0]} {size[1]}: samples have at least 1 x 1 voxels")
    facts = output.with_name(f"{runs.stem(output).removesuffix('.png')}.json")
    check_outputs([output, facts], force=force)
    from invdiff.sampling import sample as draw
    from invdiff.solution import WIDTH
    from invdiff_cli.progress import progress

    seeds = range(seed, seed + samples)
    with progress(f"{samples} samples of {prior}", -(-samples // WIDTH) * steps) as tick:
        drawn = draw(prior, size=size, seeds=seeds, steps=steps, device=device, dtype=dtype, callback=tick)
    with all_or_none(output.parent) as folder:
        draft = folder / output.name
        _write(draft, drawn)
        checksums = {"output_sha256": {output.name: sha256(draft)}}
        runs.write_json(folder / facts.name, drawn.facts | {"command_line": " ".join(sys.argv[1:])} | checksums)


def _write(path: Path, drawn: Samples) -> None:
    if path.name.endswith(".png"):
        from invdiff_cli.report.samples import grid

        grid(path, drawn)
    else:
        from invdiff import volumes

        volumes.save(path, drawn.volume())
