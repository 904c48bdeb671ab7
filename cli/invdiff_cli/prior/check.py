"""`invdiff prior check`: whether a prior is right for a volume."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invdiff.errors import GateError

if TYPE_CHECKING:
    from invdiff.priors.check import Report


def check(
    prior: Annotated[str, typer.Argument(help="Name of a prior, or a .safetensors file.", show_default=False)],
    volume: Annotated[Path, typer.Argument(help="NIfTI volume that it is to be used on.", show_default=False)],
    axis: Annotated[int, typer.Option(help="Stored axis that counts the slices.", min=0, max=2)] = 2,
    complex_: Annotated[
        bool, typer.Option("--complex", help="The two frames are real and imaginary part, for a complex prior.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Add noise to a few slices, let the prior remove it, and say in words what is wrong; exit code 8 if something is.

    Found are images scaled otherwise than in training, transposed slices, another plane, voxel sizes far from the
    training, and a card whose schedule, parameterisation or channels are wrong.
    """
    from invdiff import volumes
    from invdiff.library import find
    from invdiff.priors.check import check as look

    report = look(find(prior), volumes.load(volume), axis=axis, parts=complex_, seed=seed)
    print(json_module.dumps(asdict(report) | {"ok": report.ok}, indent=2) if json else text(report, volume))
    if not report.ok:
        kinds = ", ".join(dict.fromkeys(f.kind for f in report.findings))
        raise GateError(f"{report.prior} does not fit {volume}: {kinds}; see the report")


def text(report: Report, volume: Path) -> str:
    """The report as text."""
    low, high = report.values
    lines = [
        f"{report.prior} on {volume}: {report.slices} slices along axis {report.axis}, values {low:.4g} to {high:.4g}",
        "",
        f"{'noise':>6}  {'removed / dB':>12}  {'by a blur':>9}  {'bias':>6}",
        *(f"{x.sigma:6.2f}  {x.removed:12.2f}  {x.blur:9.2f}  {x.bias:6.2f}" for x in report.levels),
        "",
        *(f"{f.kind}: {f.text}" for f in report.findings),
    ]
    if report.ok:
        lines.append(f"nothing is wrong; {len(report.tried)} other readings of card and volume remove less noise")
    return "\n".join([*lines, f"{report.seconds:.0f} s; research use only"])
