"""`invdiff batch` and `invdiff bids`: many scans, unattended."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from invdiff_cli.presets import Preset

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help="Files (.nii, .nii.gz, .h5), folders, patterns, .tsv manifests (columns input, name, reference, mask), or "
        "a BIDS tree.",
        show_default=False,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)]
Stages = Annotated[
    str | None,
    typer.Option(
        help="What is done: simulate, reconstruct, evaluate, or several of them. [all for images; reconstruct,evaluate "
        "for measurements]",
        show_default=False,
    ),
]
Acquisition = Annotated[
    str | None,
    typer.Option(
        help="How images are measured: mri, ct, lowres, ...; without the stage simulate: how they were.",
        show_default=False,
    ),
]
Noise = Annotated[str | None, typer.Option(help="Of the measurement, as `invdiff simulate` has it. [0.01]")]
NoiseModel = Annotated[str | None, typer.Option(help="Law of the simulated noise. [gaussiannoise]")]
Axis = Annotated[int | None, typer.Option(help="Stored axis that counts the slices. [2]", min=0, max=2)]
Solver = Annotated[str | None, typer.Option(help="Method; `invdiff info solvers` lists them. [diffpir]")]
PresetOption = Annotated[Preset | None, typer.Option(help="fast, balanced or quality, as for reconstruct.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting: solver.KEY, acquisition.KEY or slurm.KEY=VALUE; repeatable."
    ),
]
Steps = Annotated[int | None, typer.Option(help="The solver's steps; short for --set solver.steps=N.")]
Prior = Annotated[str | None, typer.Option(help="A prior by name or file. [that of the acquisition]")]
Samples = Annotated[int | None, typer.Option(help="Posterior samples, of which the mean is written. [8]")]
Seed = Annotated[int | None, typer.Option(help="First sample seed. [0]")]
Quantiles = Annotated[str | None, typer.Option(metavar="Q[,Q]", help="Write these quantiles too, e.g. 0.05,0.95.")]
Exceed = Annotated[
    str | None,
    typer.Option(metavar="VALUE[,VALUE]", help="Write the probability to lie above a value, in stored units, too."),
]
Calibration = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="What `invdiff calibrate` learned: intervals that cover what they say."),
]
PlanesOption = Annotated[str | None, typer.Option(help="Whole volumes by priors of these planes, e.g. 2,0.")]
ProtocolOption = Annotated[
    Literal["invdiff", "fastmri", "skimage"] | None, typer.Option(help="Of the metrics, as for evaluate. [invdiff]")
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=VALUE", help="Exit 8 when a scan is worse, as for evaluate; repeatable."),
]
JUnit = Annotated[Path | None, typer.Option(help="Write a JUnit .xml, one test case per row and gate.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps. [auto]")]
Dtype = Annotated[str | None, typer.Option(help="Network precision: auto, float32 or bfloat16. [auto]")]
Config = Annotated[Path | None, typer.Option(help="Run file, e.g. batch.run.yaml; flags win over it.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes, one scan each. [one per GPU; else as many as cores over threads]")
]
Threads = Annotated[int, typer.Option(help="Of each worker; they decide about the last bits, so about the keys.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a running dask scheduler, tcp://HOST:8786.")]
Slurm = Annotated[
    bool, typer.Option("--slurm", help="Workers as Slurm jobs; --set slurm.queue=gpu, slurm.walltime=02:00:00, ...")
]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Try again what failed in the last run.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, memory and time; write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace results of other settings.")]


def batch(
    inputs: Inputs,
    output: Output,
    stages: Stages = None,
    acquisition: Acquisition = None,
    noise: Noise = None,
    noise_model: NoiseModel = None,
    axis: Axis = None,
    solver: Solver = None,
    preset: PresetOption = None,
    set_: Set = None,
    steps: Steps = None,
    prior: Prior = None,
    samples: Samples = None,
    seed: Seed = None,
    planes: PlanesOption = None,
    quantiles: Quantiles = None,
    exceed: Exceed = None,
    calibration: Calibration = None,
    device: Device = None,
    dtype: Dtype = None,
    protocol: ProtocolOption = None,
    fail_under: FailUnder = None,
    junit: JUnit = None,
    config: Config = None,
    workers: Workers = None,
    threads: Threads = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = False,
    retry_failed: Retry = False,
    dry_run: Dry = False,
    force: Force = False,
) -> None:
    """Simulate, reconstruct and evaluate many scans, or any one of these.

    The same command goes on where it was interrupted: what is there is not made again. A broken scan costs a row in
    failures.tsv and exit code 3. Beside the volumes: results.tsv, failures.tsv, run_report.json, batch.run.yaml (repeat
    with --config), CITATION.cff and .bib. Runs on dask.distributed: processes here, a running cluster, or Slurm.
    """
    given = dict(locals())
    from invdiff_cli.batch.inputs import found
    from invdiff_cli.batch.run import run

    raw = _bids_root(inputs)
    run(found(inputs, output), output, given, raw)


def bids(
    bids_dir: Annotated[Path, typer.Argument(help="A BIDS dataset.", show_default=False)],
    output_dir: Annotated[Path, typer.Argument(help="Folder for its derivatives.", show_default=False)],
    analysis_level: Annotated[str, typer.Argument(help="participant; there is no other.", show_default=False)],
    participant_label: Annotated[
        list[str] | None,
        typer.Option("--participant-label", "--participant_label", help="Of these only; repeatable. [all]"),
    ] = None,
    session_label: Annotated[
        list[str] | None, typer.Option("--session-label", "--session_label", help="Of these only; repeatable. [all]")
    ] = None,
    **given: Any,  # noqa: ANN401 - the flags of `batch`
) -> None:
    """The images of a BIDS dataset to BIDS derivatives, as `invdiff batch` does it."""
    from invdiff.errors import ConfigError
    from invdiff_cli.batch.bids import scans
    from invdiff_cli.batch.inputs import outside
    from invdiff_cli.batch.run import run

    if analysis_level != "participant":
        raise ConfigError(f"the analysis level {analysis_level!r} is unknown; invdiff works participant by participant")
    images = scans(bids_dir, participant_label or (), session_label or ())
    if not output_dir.resolve().is_relative_to((bids_dir / "derivatives").resolve()):  # where the standard has them
        outside(output_dir, bids_dir)
    run(images, output_dir, given, bids_dir)


def _flags() -> inspect.Signature:
    """Those of `bids`, and of `batch` but for its inputs and output."""
    out = []
    for command, less in ((bids, ("given",)), (batch, ("inputs", "output"))):
        hints = get_type_hints(command, include_extras=True)
        flags = [p for name, p in inspect.signature(command).parameters.items() if name not in less]
        out += [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in flags]
    return inspect.Signature(out)


FLAGS = _flags()
bids.__signature__ = FLAGS  # type: ignore[attr-defined]
bids.__annotations__ = {p.name: p.annotation for p in FLAGS.parameters.values()}


def _bids_root(inputs: list[str]) -> Path | None:
    """The one BIDS tree of the inputs; None without."""
    trees = [Path(p) for p in inputs if (Path(p) / "dataset_description.json").is_file()]
    if trees and len(inputs) > 1:
        from invdiff.errors import ConfigError

        raise ConfigError(f"{trees[0]} is a BIDS tree: it is a batch of its own; leave the other inputs")
    return trees[0] if trees else None
