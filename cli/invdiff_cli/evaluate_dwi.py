"""`invdiff evaluate-dwi`: how good a denoised diffusion series is."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.errors import ConfigError
from invdiff.files import check_outputs
from invdiff_cli import series


def evaluate_dwi(
    denoised: Annotated[Path, typer.Argument(help="Denoised series, 4-D.", show_default=False)],
    raw: Annotated[
        Path | None,
        typer.Option(help="The series as it was measured: for what needs no reference.", show_default=False),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What it should be: for PSNR, SSIM, FA, MD, directions.", show_default=False)
    ] = None,
    bval: series.Bval = None,
    bvec: series.Bvec = None,
    mask: series.Mask = None,
    folds: Annotated[int, typer.Option(help="Of the cross-validation against raw volumes.", min=2)] = 3,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write a .png: FA, its error, and the residual.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing picture.")] = False,
) -> None:
    """PSNR and SSIM per shell, errors of FA, MD and direction; SNR, cross-validation and what the residual shows."""
    if raw is None and reference is None:
        raise ConfigError("nothing to compare with; give --raw, --reference or both")
    if picture:
        check_outputs([picture], force=force)
    from invdiff import volumes
    from invdiff.metrics import dmri
    from invdiff.volumes.layout import voxelwise

    volume = volumes.load(denoised)
    table = series.gradients(series.tables(denoised, bval, bvec), volume, denoised)
    others = {name: volumes.load(path) for name, path in (("raw", raw), ("reference", reference)) if path}
    x, arrays = voxelwise(volume.data), {name: voxelwise(v.data) for name, v in others.items()}
    inside = series.mask(mask, volume)
    if inside is None:
        from invdiff.denoising.series import found_mask

        inside = found_mask(arrays.get("raw", x), table)
    found: dict[str, Any] = {"series": denoised.name, "mask_voxels": int(inside.sum())}
    if "reference" in others:
        found["reference"] = dmri.against_reference(x, arrays["reference"], table, inside)
    if "raw" in others:
        found["raw"] = dmri.without_reference(x, arrays["raw"], table, inside, folds)
    if picture:
        from invdiff_cli.report.series import compared

        compared(picture, volume, others, table, inside)
    print(json_module.dumps(found, indent=2) if json else "\n".join(_lines(found)))


def _lines(found: dict[str, Any], before: str = "") -> list[str]:
    out = []
    for key, value in found.items():
        if isinstance(value, dict):
            out += _lines(value, f"{before}{key} ")
        else:
            out.append(f"{before}{key}  {value:.5g}" if isinstance(value, float) else f"{before}{key}  {value}")
    return out
