"""What a batch does with every scan: stages, simulation and the run, from flags and run file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from invdiff import catalogue
from invdiff.config import parse_noise, suggest
from invdiff.errors import ConfigError
from invdiff.files import is_prior_file, sha256
from invdiff_cli import images, intervals
from invdiff_cli.batch.inputs import Scan, checked
from invdiff_cli.batch.jobs import STAGES, Job, key_of
from invdiff_cli.flags import assignments
from invdiff_cli.resolve import PRIORS
from invdiff_cli.settled import settled

SIMULATION = {"noise": "0.01", "noise_model": "gaussiannoise", "seed": 0, "axis": 2}
OF_RECONSTRUCTION = dict.fromkeys(("sigma", "auxiliary", "ratio", "warm", "grid", "steer"))  # flags that a batch lacks
SWITCHES = dict.fromkeys(("independent", "save_steer", "save_samples"), False)


def jobs(scans: list[Scan], output: Path, given: dict[str, Any], raw: Path | None = None) -> list[Job]:
    """A job for each scan, all checked before any starts.

    Args:
        scans: of `inputs.found`.
        output: the folder.
        given: flags by name.
        raw: root of a BIDS tree.

    Raises:
        ConfigError: settings that are unknown or out of range, stages that cannot follow each other, a scan that has
            nothing to be compared with.
    """
    for name in ("workers", "threads"):
        if given[name] is not None and given[name] < 1:
            raise ConfigError(f"--{name} must be at least 1, got {given[name]}")
    made = {image: _settled(given, image=image) for image in {images.is_image(s.source) for s in scans}}
    sums = {image: _checksums(run, simulation) for image, (_, run, simulation) in made.items()}
    if raw is not None:
        from invdiff_cli.batch.bids import reconstructed

        scans = checked(reconstructed(s, made[True][1]["solver"]) for s in scans)
    out = []
    for scan in scans:
        image = images.is_image(scan.source)
        stages, run, simulation = made[image]
        _check(scan, stages)
        how = {"threads": given["threads"], "protocol": given["protocol"] or "invdiff", "raw": raw and raw.resolve()}
        job = Job(scan, output.resolve(), stages, run, simulation, **how)
        out.append(replace(job, key=key_of(job, sums[image])))
    return out


def _settled(given: dict[str, Any], *, image: bool) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]:
    """Stages, run and simulation of images, or of measurements."""
    pairs = assignments(given["set_"] or [])
    own = [p for p in given["set_"] or [] if not p.startswith("slurm.")]
    flags = given | OF_RECONSTRUCTION | SWITCHES | {"set_": own}
    said = settled_stages(given, image=image)
    simulates = "simulate" in said
    if simulates or said == ("evaluate",):
        flags |= {"acquisition": None, "noise": None, "axis": None}
        flags["set_"] = [p for p in own if not p.startswith("acquisition.")]
    standing = Path("scan.nii.gz" if image and "reconstruct" in said and not simulates else "y.h5")
    _, run = settled(flags | {"measurement": standing})
    kept = run.pop("simulation", {})
    run.pop("stages", None)
    run["threads"] = given["threads"]
    simulation = _simulation(given, pairs, kept) if simulates else {}
    for acquisition in (run.get("acquisition"), simulation.get("acquisition")):
        if acquisition:
            acquisition |= {k: str(Path(v).resolve()) for k, v in images.files(acquisition).items()}
    return said, _resolved(run), simulation


def settled_stages(given: dict[str, Any], *, image: bool) -> tuple[str, ...]:
    """Flag over run file over default: all three for images, the last two for measurements."""
    said = given["stages"].split(",") if given["stages"] else _of_config(given["config"], "stages") or list(STAGES)
    for stage in said:
        if stage not in STAGES:
            raise ConfigError(f"--stages takes {', '.join(STAGES)}; there is no {stage!r}{suggest(stage, STAGES)}")
    stages = tuple(s for s in STAGES if s in said)
    if stages == ("simulate", "evaluate"):
        raise ConfigError("a simulation has nothing to evaluate; give --stages simulate,reconstruct,evaluate")
    return stages if image else tuple(s for s in stages if s != "simulate")


def slurm_of(given: dict[str, Any]) -> dict[str, str] | None:
    """Settings of a cluster of Slurm's; None without --slurm.

    Raises:
        ConfigError: such settings without --slurm; --slurm and --scheduler.
    """
    said = assignments(given["set_"] or [])
    own = {k.removeprefix("slurm."): v for k, v in said.items() if k.startswith("slurm.")}
    if own and not given["slurm"]:
        raise ConfigError("--set slurm.KEY=VALUE is for --slurm")
    if given["slurm"] and given["scheduler"]:
        raise ConfigError("--slurm starts a cluster of its own; leave it, or --scheduler")
    return own if given["slurm"] else None


def _of_config(config: Path | None, key: str) -> Any:  # noqa: ANN401 - of YAML
    from invdiff_cli.runs import read_yaml

    return read_yaml(config).get(key) if config else None


def _simulation(given: dict[str, Any], pairs: dict[str, str], kept: dict[str, Any]) -> dict[str, Any]:
    """How scans are measured: flag over --set over run file."""
    known = dict(kept.get("acquisition", {}))
    kind = given["acquisition"] or known.get("kind")
    if kind is None:
        raise ConfigError(
            "say how the scans are to be measured, e.g. --acquisition mri (`invdiff simulate` lists them), or give "
            "--stages reconstruct for images that are measurements, --stages evaluate for finished ones"
        )
    same = known.pop("kind", None) == str(kind).lower()
    own = {k.removeprefix("acquisition."): v for k, v in pairs.items() if k.startswith("acquisition.")}
    settings = catalogue.check("acquisitions", str(kind).lower(), (known if same else {}) | own)
    out = {k: given[k] if given.get(k) is not None else kept.get(k, v) for k, v in SIMULATION.items()}
    out["seed"] = kept.get("seed", 0)
    parse_noise(out["noise"])
    catalogue.find("noise", out["noise_model"])
    return {"acquisition": {"kind": str(kind).lower(), **settings}, **out}


def _resolved(run: dict[str, Any]) -> dict[str, Any]:
    """With the device and precision that auto stands for here, and with files that any worker finds."""
    from invdiff.preparation import pick_device
    from invdiff.priors.network import pick_dtype

    for key in PRIORS:
        if run.get(key) and is_prior_file(run[key]):
            run[key] = str(Path(run[key]).resolve())
    if ladder := run["settings"].get("ladder"):
        run["settings"]["ladder"] = str(Path(ladder).resolve())
    if run.get("calibration"):
        run["calibration"] = str(Path(run["calibration"]).resolve())
        intervals.calibration(run)  # damaged: said before any work
    device = pick_device(run["device"])
    dtype = str(pick_dtype(run["dtype"], device)).removeprefix("torch.")
    several = device.type == "cuda" and run["device"] == "auto"  # each worker has one of them
    return run | {"device": "cuda" if several else str(device), "dtype": dtype}


def _checksums(run: dict[str, Any], simulation: dict[str, Any]) -> dict[str, Any]:
    """Of files that settings name: priors (those that are not named come with the version), ladders, masks."""
    from invdiff.library import find

    named = {key: find(run[key]) for key in PRIORS if run.get(key)}
    named |= {"ladder": Path(run["settings"]["ladder"])} if run["settings"].get("ladder") else {}
    named |= {"calibration": Path(run["calibration"])} if run.get("calibration") else {}
    acquisitions = [a for a in (run.get("acquisition"), simulation.get("acquisition")) if a]
    return {key: sha256(file) for key, file in named.items() if file.is_file()} | {
        "acquisition": [images.checksums(a) for a in acquisitions]
    }


def _check(scan: Scan, stages: tuple[str, ...]) -> None:
    if not stages:
        raise ConfigError(f"{scan.source} is a measurement: there is nothing to simulate; give --stages reconstruct")
    if stages == ("evaluate",) and scan.reference is None:
        raise ConfigError(
            f"{scan.source} has nothing to be compared with; name its reference in a manifest (a TSV with the columns "
            "input and reference)"
        )
