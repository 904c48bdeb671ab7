"""`invdiff evaluate`: how far a reconstruction is from its reference."""

from __future__ import annotations

import json as json_module
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from invdiff.errors import ConfigError, GateError
from invdiff_cli.flags import assignments

METRICS = ("psnr", "ssim", "nrmse")


def evaluate(
    recon: Annotated[Path, typer.Argument(help="NIfTI volume.", show_default=False)],
    reference: Annotated[Path, typer.Option(help="What it should be.", show_default=False)],
    mask: Annotated[Path | None, typer.Option(help="Compare inside this volume's non-zero voxels only.")] = None,
    ssim: Annotated[Literal["2d", "3d"], typer.Option(help="SSIM slice by slice or of the volume.")] = "2d",
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Tab-separated, with a header line.")] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="Exit 8 when a frame is worse; e.g. psnr=30, nrmse=0.1 (not over)."),
    ] = None,
) -> None:
    """PSNR, SSIM and NRMSE, one row per frame, each with its protocol."""
    gates = _gates(fail_under or [])
    rows = _rows(recon, reference, mask, ssim)
    if json:
        print(json_module.dumps([{k: _finite(v) for k, v in row.items()} for row in rows], indent=2))
    elif tsv:
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join(str(v) for v in row.values()))
    else:
        for row in rows:
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    _check(rows, gates)


def _gates(pairs: list[str]) -> dict[str, float]:
    gates = assignments(pairs, "--fail-under METRIC=VALUE")
    for name, value in gates.items():
        try:
            ok = name in METRICS and math.isfinite(float(value))
        except ValueError:
            ok = False
        if not ok:
            raise ConfigError(f"--fail-under takes one of {', '.join(METRICS)} and a number, got {name}={value}")
    return {name: float(value) for name, value in gates.items()}


def _finite(value: Any) -> Any:  # noqa: ANN401 - a cell
    """JSON knows no infinity: the PSNR of equal volumes is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check(rows: list[dict[str, Any]], gates: dict[str, float]) -> None:
    for row in rows:
        for name, gate in gates.items():
            worse = row[name] > gate if name == "nrmse" else row[name] < gate
            if worse or math.isnan(row[name]):
                raise GateError(f"frame {row['frame']}: {name} is {row[name]:.4f}, the gate is {gate:g}")


def _rows(recon: Path, reference: Path, mask: Path | None, ssim: Literal["2d", "3d"]) -> list[dict[str, Any]]:
    import numpy as np

    from invdiff import volumes
    from invdiff.errors import ShapeError
    from invdiff.metrics import evaluate

    image, ref = volumes.load(recon).data.numpy(), volumes.load(reference).data.numpy()
    inside = volumes.load(mask).data[0].numpy() != 0 if mask else None
    if image.shape != ref.shape:
        raise ShapeError(f"{recon} has shape {image.shape}, {reference} has {ref.shape} (frames, x, y, z)")
    names = {"image": recon.name, "reference": reference.name}
    with np.errstate(divide="ignore"):  # equal volumes: their PSNR is infinite
        return [
            {**names, "frame": n, **evaluate(x, r, mask=inside, ssim=ssim)}
            for n, (x, r) in enumerate(zip(image, ref, strict=True))
        ]
