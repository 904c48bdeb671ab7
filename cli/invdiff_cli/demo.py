"""`invdiff demo`: a real scan, from start to end, without a download."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.errors import FileError
from invdiff.files import all_or_none, refuse_existing, sha256

if TYPE_CHECKING:
    from invdiff.comparison import Comparison

VOLUMES = ("truth", "zero_filled", "tv", "recon", "recon_std")


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Network precision: auto, float32 or bfloat16.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace existing results.")] = False,
) -> None:
    """Reconstruct the EPI volume that ships with nibabel from a quarter of its k-space lines.

    The images are given a smooth random phase: the unknown is complex, as in a scanner, for invdiff and for TV alike.
    Writes truth, zero_filled, tv, recon (mean of 8
    samples), recon_std (.nii.gz), recon.json and demo.png.
    """
    files = [output / f"{name}.nii.gz" for name in VOLUMES] + [output / "recon.json", output / "demo.png"]
    refuse_existing(files, force=force)
    _make_folder(output)
    result = _run(device, dtype)
    _write(output, result)
    print(json_module.dumps(summary(result), indent=2) if json else table(result))


def summary(result: Comparison) -> dict[str, Any]:
    """PSNR and SSIM by method, and the seconds of the whole demo."""
    metrics = {m: {name: row[m] for name, row in result.metrics.items()} for m in ("psnr", "ssim")}
    return {**metrics, "seconds": result.facts["total_seconds"]}


def table(result: Comparison) -> str:
    """PSNR and SSIM by method, as text."""
    names = {"zero_filled": "zero-filled", "tv": "TV, best weight", "reconstruction": "reconstruction"}
    lines = [f"{'':16} {'PSNR / dB':>9}  {'SSIM':>6}"]
    lines += [f"{names[n]:16} {row['psnr']:9.2f}  {row['ssim']:6.4f}" for n, row in result.metrics.items()]
    return "\n".join([*lines, f"{result.facts['total_seconds']:.0f} s"])


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise FileError(f"cannot make the folder {folder}: {e.strerror}") from e


def _run(device: str, dtype: str) -> Comparison:
    from invdiff.acquisitions import MRI
    from invdiff.comparison import compare
    from invdiff.solution import WIDTH
    from invdiff.solvers import DiffPIR
    from invdiff_cli.progress import progress
    from invdiff_datasets import epi_2mm

    truth, solver, samples = epi_2mm(), DiffPIR(), 8
    slices = truth.data.shape[0] * truth.data.shape[-1]

    def say(text: str) -> None:
        print(f"demo: {text}", file=sys.stderr, flush=True)

    with progress("posterior samples", -(-samples * slices // WIDTH) * solver.length) as tick:
        return compare(
            truth, MRI(), solver, seeds=range(samples), callback=tick, report=say, device=device, dtype=dtype
        )


def _write(folder: Path, result: Comparison) -> None:
    from invdiff import volumes
    from invdiff_cli import runs
    from invdiff_cli.report.figures import overview

    with all_or_none(folder) as draft:
        for name in VOLUMES:
            volumes.save(draft / f"{name}.nii.gz", result.volumes[name])
        checksums = {path.name: sha256(path) for path in sorted(draft.iterdir())}
        runs.write_json(draft / "recon.json", result.facts | {"metrics": result.metrics, "output_sha256": checksums})
        overview(draft / "demo.png", result)
