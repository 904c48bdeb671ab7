"""`invdiff reconstruct`: from a measurement file to volumes."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from invdiff.errors import ConfigError
from invdiff.files import all_or_none, check_outputs, sha256
from invdiff_cli import intervals, runs
from invdiff_cli.images import check_name
from invdiff_cli.presets import Preset
from invdiff_cli.resolve import Grid
from invdiff_cli.settled import prepared, record, settled

if TYPE_CHECKING:
    from torch import Tensor


def reconstruct(
    measurement: Annotated[
        Path | None,
        typer.Argument(
            help="Measurement file, .h5, or an image with --acquisition; else the one named in --config.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Volume to write, .nii or .nii.gz.", show_default=False)
    ] = None,
    solver: Annotated[str | None, typer.Option(help="Method; `invdiff info solvers` lists them. [diffpir]")] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(
            help="Solver and settings by time. fast: pnp, a point estimate in a third of the time, without an "
            "uncertainty; balanced: diffpir, 12 levels; quality: daps, 50 levels. Other flags win. [balanced]",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the solver, acquisition.KEY=VALUE, steer.KEY=VALUE or warm.KEY=VALUE; repeatable.",
        ),
    ] = None,
    acquisition: Annotated[
        str | None,
        typer.Option(
            help="How an image was measured: lowres, thickslices, blur, denoise, inpaint, ... Only for images.",
            show_default=False,
        ),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Noise of an image, in its units. [estimated from it]", show_default=False)
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(help="The same as a fraction of the image's 99.9th percentile.", show_default=False),
    ] = None,
    axis: Annotated[
        int | None, typer.Option(help="Stored axis that counts the slices of an image. [2]", min=0, max=2)
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="A prior that ships or is installed, or a .safetensors file; for i2sb and cddb a bridge. [mri, "
            "radial, spiral, trajectory: brain-mr-complex, ct: ct-body, else brain-mr; bridges of mri and ct: "
            "brain-mr-bridge, ct-body-bridge]"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="The solver's steps; short for --set steps=N.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Posterior samples. The output is their mean, which has the least error; 1 gives a single sample, "
            "with the texture of a real scan but more error. Point estimators take 1. [8]"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="First sample seed; sample n uses seed + n. [0]")] = None,
    independent: Annotated[
        bool, typer.Option("--independent", help="Draw all samples independently, not in pairs of opposite noise.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps. [auto]")] = None,
    dtype: Annotated[str | None, typer.Option(help="Network precision: auto, float32 or bfloat16. [auto]")] = None,
    planes: Annotated[
        str | None,
        typer.Option(
            help="Reconstruct whole volumes by priors of these planes, given by the axes across their slices, the main "
            "one first: 2, or 2,0 for perpendicular priors that take turns. [each slice by itself]",
            show_default=False,
        ),
    ] = None,
    auxiliary: Annotated[
        str | None,
        typer.Option(help="Prior of all planes but the first. [the same]", show_default=False),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(help="With several planes: every RATIOth noise level is not the main one's. [2]", min=1.0),
    ] = None,
    grid: Annotated[
        Grid | None,
        typer.Option(
            help="Voxels of the unknown. scan: the scan's; prior: where these are far from square, or from what the "
            "prior was trained on, such as it knows, even larger ones; auto: the same, in whole volumes and never "
            "larger. The output has the scan's. [auto]",
            show_default=False,
        ),
    ] = None,
    warm: Annotated[
        Literal["slices", "frames", "none"] | None,
        typer.Option(
            help="Start each slice of a stack, or frame of a series, from the samples of the one before, with noise of "
            "twice their difference or more (--set warm.sigma=): half of the network calls, but a sample then depends "
            "on its neighbours; `invdiff info warm`. [none]",
            show_default=False,
        ),
    ] = None,
    steer: Annotated[
        bool | None,
        typer.Option(
            "--steer/--no-steer",
            help="Adapt the prior's network to this measurement first, for scans unlike those it was trained on: a "
            "minute or two, once for all slices and samples; --set steer.KEY=VALUE, `invdiff info steer`. Part of scd.",
            show_default=False,
        ),
    ] = None,
    save_steer: Annotated[
        bool, typer.Option("--save-steer", help="Steer, and write the adapted weights too, as *_steer.safetensors.")
    ] = False,
    save_samples: Annotated[bool, typer.Option("--save-samples", help="Write every sample too.")] = False,
    quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="Q[,Q]",
            help="Write the values below which each voxel lies with these probabilities, e.g. 0.05,0.95 as *_q05 and "
            "*_q95. Of a point estimate there are none. [none; with --calibration 0.05,0.95]",
            show_default=False,
        ),
    ] = None,
    exceed: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE[,VALUE]",
            help="Write the probability that each voxel lies above a value, in stored units, as *_above-VALUE. [none]",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What `invdiff calibrate` learned from scans with truth: widens the intervals of --quantiles and "
            "--exceed so that they cover what they say. *_std stays what the samples gave. [none]",
            show_default=False,
        ),
    ] = None,
    mem_gb: Annotated[
        float | None,
        typer.Option(
            help="GiB that the run may take at most, of a GPU its own. Where the defaults need more, the network sees "
            "fewer slices at once, then windows of them; where nothing fits, nothing starts. [what is free]",
            min=0.0,
            show_default=False,
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="How often a run is kept in *.checkpoint, from where the same command goes on.", min=0)
    ] = 2.0,
    config: Annotated[Path | None, typer.Option(help="Run file, e.g. recon.run.yaml; flags win over it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Reconstruct: by default the mean of 8 posterior samples, and their standard deviation as *_std.

    A NIfTI image can be reconstructed in one step: --acquisition says how it was measured.

    Beside the volume: a .json that says what was done and how well it fits, and a .run.yaml that repeats it. A run that
    was killed goes on when it is called again; Ctrl-C leaves the estimate so far in *.checkpoint.
    """
    source, run = settled(dict(locals()))
    if output is None:
        raise ConfigError("no output; give -o recon.nii.gz")
    check_name(output)
    saved = {"samples": run["save_samples"], "steer": run["save_steer"], "maps": intervals.paths(output, run)}
    check_outputs(runs.outputs(output, run["samples"], **saved), force=force)
    _run(source, output, run, mem_gb, checkpoint_minutes * 60)


def _run(source: Path, output: Path, run: dict[str, Any], mem_gb: float | None, every: float) -> None:
    from invdiff import volumes
    from invdiff.checkpoint import steps_done
    from invdiff.plan import Memory
    from invdiff.reconstruction import reconstruct
    from invdiff.solution import Interrupted
    from invdiff_cli.progress import progress

    wider = intervals.calibration(run)
    measured, method, where = prepared(source, run)
    seen = measured.as_volumes() if "planes" in run else measured
    parts = "volumes" if seen.volumetric else "slices"
    kept = runs.sibling(output, ".checkpoint")
    taken: list[Path] = []

    def each(number: int, x: Tensor) -> None:
        if run["save_samples"]:
            taken.append(runs.sample(kept / output.name, number))
            volumes.save(taken[-1], seen.volume(x), force=True)

    if before := steps_done(kept, method.length):
        print(f"invdiff: {kept} holds {before} step{'s' * (before > 1)} of a run", file=sys.stderr)
    try:
        with progress(f"{run['solver']}, {run['samples']} x {len(seen.y)} {parts}") as tick:
            memory = Memory(mem_gb, told=lambda plan: tick.expect(plan.chunks * method.length - before))
            where |= {"callback": tick, "each": each, "memory": memory}
            result = reconstruct(measured, method, checkpoint=kept, every=every, **where)
    except Interrupted as e:
        if e.estimate is None:
            raise
        volumes.save(kept / output.name, e.estimate, force=True)
        told = f"{kept / output.name} is the estimate so far, and the same command goes on"
        print(f"invdiff: interrupted; {told}", file=sys.stderr)
        raise SystemExit(130) from None
    found = intervals.found(result, partial(runs.part, output), run, wider)
    content = record(run, result, measured, output.parent)
    facts = result.facts | {
        "intervals": found.facts,
        "warnings": result.facts["warnings"] + found.warnings,
        "command_line": " ".join(sys.argv[1:]),
        "input": {"file": source.name, "sha256": sha256(source)},
    }
    with all_or_none(output.parent) as folder:
        draft = folder / output.name
        facts["output_sha256"] = runs.save_all(draft, result, taken, found.maps())
        if run["save_steer"] and result.steered:
            result.steered.save(runs.sibling(draft, "_steer.safetensors"), facts["prior"]["sha256"])
        kind = "image" if "acquisition" in run else "measurement"
        runs.write_run(runs.sibling(draft, ".run.yaml"), content, source, output.parent, kind=kind)
        runs.write_json(runs.sibling(draft, ".json"), facts)
    shutil.rmtree(kept, ignore_errors=True)
    for warning in facts["warnings"]:
        print(f"invdiff: warning: {warning}", file=sys.stderr)
