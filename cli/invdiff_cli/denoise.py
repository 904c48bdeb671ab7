"""`invdiff denoise`: a diffusion series, or a single volume, without its noise."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from invdiff import catalogue
from invdiff.errors import ConfigError
from invdiff.files import all_or_none, check_outputs, sha256
from invdiff_cli import images, runs, series
from invdiff_cli.flags import assignments

if TYPE_CHECKING:
    from invdiff.denoising import Denoised
    from invdiff.volumes import Volume
    from invdiff.volumes.gradients import Gradients

SIZES: dict[str, dict[str, Any]] = {
    "fast": {"steps": 1500},
    "balanced": {},
    "quality": {"steps": 12_000},
    "gpu": {"steps": 40_000, "batch": 32, "width": 64},
}


def denoise(
    image: Annotated[
        Path, typer.Argument(metavar="DWI", help="NIfTI series, 4-D; or a 3-D volume.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Series to write, .nii or .nii.gz.", show_default=False)
    ],
    bval: series.Bval = None,
    bvec: series.Bvec = None,
    method: Annotated[
        Literal["difusion", "mppca", "patch2self", "nlmeans", "dmid"] | None,
        typer.Option(
            help="difusion: a network trained on this series alone, minutes; mppca, patch2self, nlmeans: by dipy, "
            "seconds; dmid: a volume by the prior of brains. [difusion; of 3-D volumes dmid]",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        Literal["fast", "balanced", "quality", "gpu"], typer.Option(help="Training of difusion; gpu: a larger network.")
    ] = "balanced",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the method, `invdiff info difusion`; repeatable."
        ),
    ] = None,
    mask: series.Mask = None,
    b0: Annotated[
        Literal["keep", "denoise"], typer.Option(help="Volumes without weighting: as they were measured, or denoised.")
    ] = "keep",
    rician: Annotated[bool, typer.Option("--rician", help="Take off the bias of magnitudes, too.")] = False,
    phase: Annotated[
        Path | None,
        typer.Option(
            help="DWI is the magnitude, this the phase in radians: the real part is denoised.", show_default=False
        ),
    ] = None,
    imaginary: Annotated[
        Path | None, typer.Option(help="DWI is the real part, this the imaginary one.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Take the noise off a diffusion series: same header, scale and b0s, gradient table untouched.

    Beside the series: *_noise (the noise's standard deviation), *_residual (what was taken off), the gradient table, a
    .json and a .png. A run of difusion that was killed goes on when it is called again. A 3-D volume goes to the prior
    of brains.
    """
    images.check_name(output, "series")
    if phase and imaginary:
        raise ConfigError("--phase goes with magnitudes, --imaginary with real parts; give one of them")
    name = method or "difusion"
    if name != "dmid":
        chosen = (SIZES[preset] if name == "difusion" else {}) | assignments(set_ or [])
        chosen = catalogue.check("denoising", name, chosen)
    from invdiff import config, registry, volumes
    from invdiff.denoising import Run
    from invdiff.denoising import denoise as run
    from invdiff.preparation import pick_device
    from invdiff.reconstruction import machine, versions
    from invdiff_cli.progress import progress

    place = pick_device(device)
    volume = volumes.load(image)
    if not volume.series:
        _single(image, output, method, set_, force=force)
        return
    if name == "dmid":
        raise ConfigError(f"{image} is a series; --method dmid is for 3-D volumes")
    check_outputs(outputs(output), force=force)
    tables = series.tables(image, bval, bvec)
    table, inside = series.gradients(tables, volume, image), series.mask(mask, volume)
    other = phase or imaginary
    if other:
        volume = series.turned(volume, volumes.load(other), polar=bool(phase))
    files = {"series": image, "bval": tables[0], "bvec": tables[1], "mask": mask}
    files |= {"phase": phase, "imaginary": imaginary}
    sums = {role: {"file": p.name, "sha256": sha256(p)} for role, p in files.items() if p}
    how: Any = config.build(registry.find("denoising", name), chosen)
    kept = runs.sibling(output, ".checkpoint")
    with progress(f"{name}, {len(volume.data)} volumes", every=30.0) as tick:
        way = Run(kept, device=device, facts={"files": sums, "method": config.dump(how)}, expect=tick.expect, tick=tick)
        result = run(volume, table, how, mask=inside, b0=b0, rician=rician, run=way)
    facts = {"command_line": " ".join(sys.argv[1:]), "inputs": sums, **result.facts}
    facts["intended_use"] = "research only"
    _write(output, result, volume, table, tables, facts | {"versions": versions(), "machine": machine(place)})
    kept.unlink(missing_ok=True)
    for warning in result.facts["warnings"]:
        print(f"invdiff: warning: {warning}", file=sys.stderr)


def outputs(output: Path) -> list[Path]:
    """Every file that will be written."""
    e = runs.endings(output)
    ends = (f"_noise{e}", f"_residual{e}", ".bval", ".bvec", ".json", ".png")
    return [output, *(runs.sibling(output, end) for end in ends)]


def _single(image: Path, output: Path, method: str | None, set_: list[str] | None, *, force: bool) -> None:
    """A 3-D volume, by the prior of brains at the level of its own noise."""
    from invdiff_cli.reconstruct import reconstruct

    if method not in (None, "dmid"):
        raise ConfigError(f"{image} is a single volume; --method {method} is for series, leave it out or take dmid")
    reconstruct(image, output, solver="dmid", acquisition="denoise", set_=set_, force=force)


def _write(
    output: Path, result: Denoised, raw: Volume, table: Gradients, tables: tuple[Path, Path], facts: dict[str, Any]
) -> None:
    from invdiff import volumes
    from invdiff_cli.report.series import overview

    e = runs.endings(output)
    with all_or_none(output.parent) as folder:
        draft = folder / output.name
        for ending, volume in (("", result.volume), ("_noise", result.noise), ("_residual", result.residual)):
            volumes.save(runs.sibling(draft, ending + e), volume)
        for path, ending in zip(tables, (".bval", ".bvec"), strict=True):
            shutil.copyfile(path, runs.sibling(draft, ending))
        overview(runs.sibling(draft, ".png"), raw, result, table)
        facts["output_sha256"] = {p.name: sha256(p) for p in sorted(folder.iterdir())}
        runs.write_json(runs.sibling(draft, ".json"), facts)
