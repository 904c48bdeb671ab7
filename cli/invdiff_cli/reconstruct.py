"""`invdiff reconstruct`: from a measurement file to volumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff import catalogue
from invdiff.config import suggest
from invdiff.errors import ConfigError, FileError
from invdiff.files import check_outputs, sha256
from invdiff_cli import runs
from invdiff_cli.flags import assignments

DEFAULTS = {"solver": "diffpir", "prior": "brain-mr", "samples": 8, "seed": 0, "device": "auto", "dtype": "auto"}
OTHERS = {"measurement", "measurement_sha256", "settings", "width", "threads", "save_samples", "antithetic"}


def reconstruct(
    measurement: Annotated[
        Path | None, typer.Argument(help="Measurement file, .h5; else the one named in --config.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Volume to write, .nii or .nii.gz.", show_default=False)
    ] = None,
    solver: Annotated[str | None, typer.Option(help="Method; `invdiff info solvers` lists them. [diffpir]")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the solver; repeatable.")
    ] = None,
    prior: Annotated[str | None, typer.Option(help="A prior that ships, or a .safetensors file. [brain-mr]")] = None,
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
    save_samples: Annotated[bool, typer.Option("--save-samples", help="Write every sample too.")] = False,
    config: Annotated[Path | None, typer.Option(help="Run file, e.g. recon.run.yaml; flags win over it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Reconstruct: by default the mean of 8 posterior samples, and their standard deviation as *_std.

    Beside the volume: a .json that says what was done and how well it fits, and a .run.yaml that repeats it.
    """
    flags = {"solver": solver, "prior": prior, "samples": samples, "seed": seed, "device": device, "dtype": dtype}
    run = resolve(flags, assignments(set_ or []), steps, config)
    run["save_samples"] = save_samples or run.get("save_samples", False)
    run["antithetic"] = run.get("antithetic", True) and not independent
    source = measurement or _from_config(run, config)
    if output is None:
        raise ConfigError("no output; give -o recon.nii.gz")
    if not output.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{output}: a volume is written as .nii or .nii.gz; choose one of these endings")
    count = run["samples"]
    check_outputs(runs.outputs(output, count, samples=run["save_samples"]), force=force)
    _run(source, output, run)


def resolve(flags: dict[str, Any], pairs: dict[str, str], steps: int | None, config: Path | None) -> dict[str, Any]:
    """Every setting of the run, checked; flag over --set over --config over default. Imports no torch."""
    given = runs.read_yaml(config) if config else {}
    for key in given:
        if key not in DEFAULTS and key not in OTHERS:
            raise ConfigError(f"{config} has an unknown key {key!r}{suggest(key, [*DEFAULTS, *OTHERS])}")
    run = {k: v for k, v in given.items() if k in OTHERS}
    run |= {k: flags[k] if flags[k] is not None else given.get(k, default) for k, default in DEFAULTS.items()}
    pairs = {k.removeprefix("solver."): v for k, v in pairs.items()}
    run["solver"] = str(run["solver"]).lower()
    same_solver = str(given.get("solver", run["solver"])).lower() == run["solver"]
    settings = (given.get("settings", {}) if same_solver else {}) | pairs
    if steps is not None:
        settings["steps"] = steps
    run["settings"] = catalogue.check("solvers", run["solver"], settings)
    if catalogue.find("solvers", run["solver"])["gives"] == "point estimate":
        run["samples"] = 1
    if run["samples"] < 1:
        raise ConfigError(f"--samples must be at least 1, got {run['samples']}")
    for name, choices in (("dtype", ("auto", "float32", "bfloat16")),):
        if run[name] not in choices:
            raise ConfigError(f"--{name} {run[name]!r} is unknown{suggest(run[name], choices)}")
    return run


def _from_config(run: dict[str, Any], config: Path | None) -> Path:
    if config is None or "measurement" not in run:
        raise ConfigError("no measurement; give a .h5 file, or a --config that names one")
    source = config.parent / str(run["measurement"])
    if source.is_file() and sha256(source) != run.get("measurement_sha256"):
        raise FileError(f"{source} is not the file of that run (checksum differs); name it as an argument to use it")
    return source


def _run(source: Path, output: Path, run: dict[str, Any]) -> None:
    import torch

    from invdiff import config, measurements, registry
    from invdiff.reconstruction import reconstruct
    from invdiff.solve import WIDTH
    from invdiff_cli.progress import progress

    torch.set_num_threads(run.setdefault("threads", torch.get_num_threads()))
    measured = measurements.load(source)
    method: Any = config.build(registry.find("solvers", run["solver"]), run["settings"])
    seeds = range(run["seed"], run["seed"] + run["samples"])
    width = run.setdefault("width", WIDTH)
    chunks = -(-len(measured.y) * len(seeds) // width)
    where = {"prior": run["prior"], "device": run["device"], "dtype": run["dtype"], "width": width}
    where["antithetic"] = run["antithetic"]
    with progress(f"{run['solver']}, {len(seeds)} x {len(measured.y)} slices", chunks * method.length) as tick:
        result = reconstruct(measured, method, seeds=seeds, callback=tick, **where)
    checksums = runs.save_all(output, result, samples=run["save_samples"], as_volume=measured.volume)
    # The dtype that ran, not "auto": the run file must repeat the same bits elsewhere, too.
    run["dtype"] = (result.facts["prior"] or {"dtype": run["dtype"]})["dtype"]
    run["device"] = result.facts["machine"]["device"]
    order = [*DEFAULTS, "settings", "width", "threads", "save_samples", "antithetic"]
    runs.write_run(runs.sibling(output, ".run.yaml"), {k: run[k] for k in order}, source)
    facts = result.facts | {
        "command_line": " ".join(sys.argv[1:]),
        "input": {"file": source.name, "sha256": sha256(source)},
        "output_sha256": checksums,
    }
    runs.write_json(runs.sibling(output, ".json"), facts)
