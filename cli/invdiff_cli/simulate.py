"""`invdiff simulate`: a measurement with known truth, from any volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff import catalogue
from invdiff.config import parse_noise
from invdiff.errors import ConfigError
from invdiff.files import check_outputs, sha256
from invdiff_cli import flags

app = typer.Typer(no_args_is_help=True, help="Measure a volume with known physics and noise.", rich_markup_mode=None)


def run(
    settings: dict[str, Any],
    volume: Annotated[Path, typer.Argument(help="NIfTI volume, 3-D or 4-D.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Measurement file to write, .h5.", show_default=False)],
    noise: Annotated[
        str, typer.Option(help="Noise per real component: a fraction of the 99.9th percentile (ct: of mean |y|).")
    ] = "0.01",
    noise_model: Annotated[
        str, typer.Option(help="Law of the noise; `invdiff info noise` lists them. For CT counts: --photons.")
    ] = "gaussiannoise",
    seed: Annotated[int, typer.Option(help="Seed of mask and noise.")] = 0,
    axis: Annotated[int, typer.Option(help="Stored axis that counts the slices.", min=0, max=2)] = 2,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
) -> None:
    """Read, measure, write."""
    parse_noise(noise)
    if output.suffix != ".h5":
        raise ConfigError(f"{output}: a measurement is written as .h5; choose this ending")
    check_outputs([output], force=force)
    from invdiff import config, measurements, registry, volumes
    from invdiff.simulation import simulate

    kind = registry.find("acquisitions", settings.pop("kind"))
    acquisition: Any = config.build(kind, settings)
    measured = simulate(volumes.load(volume), acquisition, noise=noise, model=noise_model, seed=seed, axis=axis)
    measured.facts.update(source=volume.name, source_sha256=sha256(volume))
    measurements.save(output, measured, force=force)


for _name in catalogue.load()["acquisitions"]:
    app.command(_name, epilog=f"Example: invdiff simulate {_name} scan.nii.gz -o y.h5 --noise 0.01 --seed 0")(
        flags.command(_name, run)
    )
