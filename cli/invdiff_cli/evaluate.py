"""`invdiff evaluate`: how far a reconstruction is from its reference, or what can be said without one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from invdiff.errors import ConfigError
from invdiff.files import check_outputs
from invdiff_cli import gates, judged, tsv

Row = dict[str, Any]
FIT = ("data_residual", "chi2")
PROTOCOL = ("data_range", "ssim_mode", "window", "mask", "voxels", "protocol", "protocol_hash")
COLUMNS = ("image", "reference", "frame", "slice", "region", "psnr", "ssim", "nrmse", "nmse", "hfen", *FIT, *PROTOCOL)
NOISE = ("noise", "nps_mean_frequency", "nps_peak_frequency", "nps_peak")
ALONE = ("image", "frame", *FIT, *NOISE, "mask", "voxels")


def evaluate(
    recon: Annotated[Path, typer.Argument(help="NIfTI volume.", show_default=False)],
    reference: Annotated[
        Path | None, typer.Option(help="What it should be. Without it: data residual, chi2, noise.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Count this volume's non-zero voxels only. Without --reference: a flat region, for the spectrum of "
            "its noise.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        Literal["invdiff", "fastmri", "skimage"] | None,
        typer.Option(help="SSIM's window and the data range, by a name that each row bears. [invdiff]"),
    ] = None,
    ssim: Annotated[
        Literal["2d", "3d"] | None, typer.Option(help="SSIM slice by slice or of the volume. [as the protocol has it]")
    ] = None,
    per_slice: Annotated[bool, typer.Option("--per-slice", help="A row per slice too.")] = False,
    regions: Annotated[
        Path | None, typer.Option(help="A row per non-zero label of this volume too.", show_default=False)
    ] = None,
    region_names: Annotated[
        Path | None,
        typer.Option(help="Lines of label, tab, name. [the .tsv beside --regions, if there is one]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_tsv: Annotated[bool, typer.Option("--tsv", help="Tab-separated, with a header line.")] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Exit 8 when a row is worse; psnr=30, ssim=0.9; nrmse, nmse, hfen and data_residual: not over.",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write a JUnit .xml too, one test case per row and gate.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing JUnit file.")] = False,
) -> None:
    """PSNR, SSIM, NRMSE, NMSE and HFEN of each frame, then of its slices, then of its regions, with their protocol.

    Where the .json of its run lies beside the image: how well it fits the measurement, too.
    """
    limits = gates.gates(fail_under or [])
    if reference is None:
        _check_alone(limits, {"--protocol": protocol, "--ssim": ssim, "--per-slice": per_slice, "--regions": regions})
    if region_names and not regions:
        raise ConfigError("--region-names names the labels of --regions; give both")
    if junit and not limits:
        raise ConfigError("--junit has a test case per row and gate; give --fail-under, e.g. psnr=30")
    if junit:
        check_outputs([junit], force=force)
    columns: Sequence[str] = COLUMNS if reference else ALONE
    if reference is None:
        rows = judged.alone(recon, mask)
    else:
        from invdiff.metrics import preset

        chosen = preset(protocol or "invdiff", ssim)
        rows = judged.against_reference(
            recon, reference, chosen, mask=mask, per_slice=per_slice, labels=regions, names=region_names
        )
    _print(rows, columns, "json" if json else "tsv" if as_tsv else "text")
    found = gates.cases(rows, limits)
    if junit:
        gates.write_junit(junit, found)
    gates.check(found)


def _check_alone(limits: dict[str, float], given: dict[str, Any]) -> None:
    """Refuse what has no meaning without a reference."""
    asked = [flag for flag, value in given.items() if value] + [f"--fail-under {m}" for m in limits if m not in FIT]
    if asked:
        raise ConfigError(f"{', '.join(asked)}: nothing to compare with; give --reference")


def _print(rows: list[Row], columns: Sequence[str], form: str) -> None:
    if form == "json":
        curve = "noise_power"  # too long for a cell
        print(tsv.as_json([{c: row.get(c) for c in (*columns, *({curve} & row.keys()))} for row in rows]))
    elif form == "tsv":
        print(tsv.written(rows, columns))
    else:
        for row in [*rows, *_means(rows)]:
            print(_line({c: row.get(c) for c in ("mean over", *columns)}))


def _means(rows: list[Row]) -> list[Row]:
    """A row for the volume and for each region of a series; rows of slices have none."""
    from invdiff.metrics.rows import means

    groups: dict[str | None, list[Row]] = {}
    for row in rows:
        if row.get("slice") is None and "protocol" in row:
            groups.setdefault(row.get("region"), []).append(row)
    return [
        {"mean over": f"{len(group)} frames", "region": region, **means(group)}
        for region, group in groups.items()
        if len(group) > 1
    ]


def _line(row: Row) -> str:
    """Names and figures, without those that there are not."""
    return "  ".join(f"{name} {_figure(value)}" for name, value in row.items() if value is not None)


def _figure(value: Any) -> str:  # noqa: ANN401 - a cell
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "n/a"
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
