"""`invdiff prior convert`: a checkpoint of another code base becomes a prior."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.errors import ConfigError
from invdiff.files import check_outputs
from invdiff_cli.flags import assignments

if TYPE_CHECKING:
    from invdiff.priors.checkpoints import Card
    from invdiff.priors.convert import Report

Pair = tuple[float, float]


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Checkpoint, or a folder as diffusers writes it.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Prior to write, .safetensors.", show_default=False)],
    family: Annotated[str | None, typer.Option(help="adm, edm, ncsnpp or diffusers; else told by the keys.")] = None,
    parameterisation: Annotated[
        str | None,
        typer.Option(help="What the network predicts: edm, vp-eps, vp-v, vp-x0, flow, flow-1000, iadb, score or ve."),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Noise table: linear, scaled_linear, cosine or continuous, e.g. cosine:steps=4000."),
    ] = None,
    range_: Annotated[
        Pair | None, typer.Option("--range", metavar="LOW HIGH", help="Numbers that images come in. [-1 1]")
    ] = None,
    window: Annotated[
        Pair | None,
        typer.Option(metavar="LOW HIGH", help="Stored values, e.g. HU, at the ends of the range; else measured."),
    ] = None,
    mean: Annotated[float | None, typer.Option(help="Mean of images in the range. [its middle]")] = None,
    std: Annotated[float | None, typer.Option(help="Their spread, EDM's sigma_data. [a quarter of it]")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the network that the file does not show."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name on the card; else the file's.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the card.")] = "unknown",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load pickled objects; this runs code from the file.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
) -> None:
    """Convert a checkpoint of guided-diffusion (ADM), EDM, score-SDE (NCSN++) or diffusers into a prior.

    Every key must be matched. What a file does not show is assumed as is customary, and said.
    """
    if not output.name.endswith(".safetensors"):
        raise ConfigError(f"{output}: a prior is written as .safetensors; choose this ending")
    arguments = {key: _value(key, text) for key, text in assignments(set_ or []).items()}
    check_outputs([output], force=force)
    from invdiff.priors import checkpoints
    from invdiff.priors import convert as library

    known = library.Choices(parameterisation, schedule, range_, window, mean, std, name, licence)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", library.PickleWarning)
        try:
            net, card, report = library.convert(
                source, known, family=family, arguments=arguments, allow_pickle=allow_pickle
            )
        finally:
            for warning in caught:
                if warning.category is library.PickleWarning:
                    print(f"invdiff: warning: {warning.message}", file=sys.stderr)
    checkpoints.save(output, net, card, dtype=None)
    print("\n".join(_lines(source, output, card, report)))


def _value(key: str, text: str) -> Any:  # noqa: ANN401 - a number, a truth value, a word, or several with commas
    import yaml

    try:
        return yaml.safe_load(f"[{text}]" if "," in text and not text.startswith("[") else text)
    except yaml.YAMLError as e:
        raise ConfigError(f"--set {key}: cannot be read as a value, got {text!r}; write it like 2, true or 2,4") from e


def _lines(source: Path, output: Path, card: Card, report: Report) -> list[str]:
    where = repr(report.place) if report.place else "the file itself"
    prefix = f", prefix {report.prefix!r}" if report.prefix else ""
    lines = [f"{source}: {report.family}, {report.matched} of {report.matched} tensors matched, from {where}{prefix}"]
    if report.others:
        lines.append(f"not taken: {', '.join(report.others)}")
    if report.left_out:
        shown = ", ".join(report.left_out[:10]) + (", ..." if len(report.left_out) > 10 else "")
        lines.append(f"not of the network, left out: {len(report.left_out)} ({shown})")
    if report.assumed:
        lines.append(
            "assumed, for the file does not show it: " + ", ".join(f"{k}={v}" for k, v in report.assumed.items())
        )
    low, high = card.units["range"]
    lines.append(
        f"{output}: {card.architecture}, {card.channels} channels, {card.parameterisation}, schedule {card.schedule}, "
        f"sigma {card.sigma_min:.3g} to {card.sigma_max:.4g}, images in [{low:g}, {high:g}]"
    )
    return lines
