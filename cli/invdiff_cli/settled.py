"""A run, from its flags to the arguments of `invdiff.reconstruct`, and back to what its run file says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff.errors import PriorError
from invdiff.files import is_prior_file, sha256
from invdiff_cli import images, intervals, runs
from invdiff_cli.flags import assignments
from invdiff_cli.resolve import DEFAULTS, PRIORS, grid_of, planes_of, resolve, resolve_image, source_of, warm_of

if TYPE_CHECKING:
    from invdiff.measurements import Measurement
    from invdiff.reconstruction import Reconstruction

ORDER = (
    *DEFAULTS,
    "settings",
    "planes",
    "auxiliary",
    "ratio",
    "grid",
    "warm",
    "steer",
    "width",
    "slices",
    "window",
    "threads",
    "save_samples",
    "save_steer",
    "antithetic",
    "quantiles",
    "exceed",
    "calibration",
)


def settled(given: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The measurement or image, and every setting of the run, from the flags by name."""
    pairs, config, measurement = assignments(given["set_"] or []), given["config"], given["measurement"]
    flags = {k: given[k] for k in ("preset", "solver", "prior", "samples", "seed", "device", "dtype")}
    run = resolve(flags, pairs, given["steps"], config, steer=True if given["save_steer"] else given["steer"])
    resolve_image(run, measurement, {k: given[k] for k in ("acquisition", "axis", "sigma", "noise")}, pairs)
    changed = any(given[k] is not None for k in ("planes", "prior", "auxiliary"))
    run |= {"grid": grid_of(given["grid"], run, changed=changed)}
    run |= planes_of(given["planes"], given["ratio"], given["auxiliary"], run)
    run = {k: v for k, v in run.items() if k != "warm"} | warm_of(given["warm"], pairs, run)
    run["save_samples"] = given["save_samples"] or run.get("save_samples", False)
    run["save_steer"] = given["save_steer"] or run.get("save_steer", False)
    run["antithetic"] = run.get("antithetic", True) and not given["independent"]
    intervals.settle(run, {k: given.get(k) for k in intervals.FLAGS}, config)
    return measurement or source_of(run, config), run


def prepared(source: Path, run: dict[str, Any]) -> tuple[Measurement, Any, dict[str, Any]]:
    """The measurement, the solver, and the other arguments of `invdiff.reconstruct`."""
    import torch

    torch.set_num_threads(run.setdefault("threads", torch.get_num_threads()))
    return measured_of(source, run), *method_of(run)


def measured_of(source: Path, run: dict[str, Any]) -> Measurement:
    """The measurement that a file holds, or that an image is."""
    from invdiff import measurements

    if "acquisition" not in run:
        return measurements.load(source)
    how = {"axis": run["axis"], "sigma": run.get("sigma"), "noise": run.get("noise")}
    return images.measured(source, run["acquisition"], **how)


def method_of(run: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The solver, and the other arguments of `invdiff.reconstruct`."""
    from invdiff import config, registry
    from invdiff.planes import Planes
    from invdiff.steering import Steering
    from invdiff.warm import Warm

    method: Any = config.build(registry.find("solvers", run["solver"]), run["settings"])
    for key in PRIORS:
        if f"{key}_sha256" in run and method.requirements()[2] is not type(None):
            _same_prior(run[key], run[f"{key}_sha256"], key)
    run["samples"] = run["samples"] if method.draws else 1
    intervals.check_samples(run)
    where = {k: run.get(k) for k in ("prior", "device", "dtype", "width", "slices", "window", "antithetic", "grid")}
    where["seeds"] = range(run["seed"], run["seed"] + run["samples"])
    if "planes" in run:
        where["planes"] = Planes(tuple(run["planes"]), run["ratio"], auxiliary=run.get("auxiliary"))
    where["warm"] = config.build(Warm, run["warm"]) if "warm" in run else None
    where["steer"] = config.build(Steering, run["steer"]) if "steer" in run else None
    return method, where


def record(run: dict[str, Any], result: Reconstruction, measured: Measurement, folder: Path) -> dict[str, Any]:
    """What the run file in a folder says: what ran, not "auto", so that it repeats the same bits elsewhere, too."""
    from invdiff import config
    from invdiff.steering import Steering

    seen = measured.as_volumes() if "planes" in run else measured
    prior = result.facts["prior"]
    run["settings"] = {k: v for k, v in result.facts["solver"].items() if k != "kind"}
    run["dtype"] = prior["dtype"] if prior else run["dtype"]
    run["device"] = result.facts["machine"]["device"]
    run["grid"] = ("prior" if result.facts["grid"] else "scan") if prior else None
    run |= {k: result.facts["memory"][k] for k in ("width", *(("slices", "window") if prior else ()))}
    run["prior"] = prior["file"] if prior else None
    for key in PRIORS:
        if run.get(key) and is_prior_file(run[key]):
            run[key] = f"./{runs.relative(Path(run[key]), folder)}"
    if "steer" in run:
        how = asdict(config.build(Steering, run["steer"]))
        run["steer"] = {k: v for k, v in how.items() if v is not None and (k == "weights" or not how["weights"])}
    sums = runs.record_files(run, folder)
    sums |= {"prior_sha256": prior["sha256"]} if prior else {}
    sums |= {"auxiliary_sha256": prior["auxiliary"]["sha256"]} if prior and "auxiliary" in prior else {}
    sums |= intervals.record(run, folder)
    if not seen.volumetric:
        run.pop("slices", None)
    content = {k: run[k] for k in ORDER if run.get(k) is not None} | sums
    if "acquisition" in run:
        content = images.record(measured, folder) | content
    return content


def _same_prior(name: str, checksum: str, key: str) -> None:
    from invdiff.priors.checkpoints import find

    path = find(name)
    if path.is_file() and sha256(path) != checksum:
        raise PriorError(f"{name} is not the prior of that run (checksum differs); pass --{key} {name} to use it")
