"""Where each setting of a run comes from: flag over --set over run file over default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from invdiff import catalogue
from invdiff.config import suggest, validate
from invdiff.errors import ConfigError, FileError
from invdiff.files import is_prior_file, sha256
from invdiff_cli import runs

DTYPES = ("auto", "float32", "bfloat16")
DEFAULTS = {"solver": "diffpir", "prior": None, "samples": 8, "seed": 0, "device": "auto", "dtype": "auto"}
RUN_FILE: dict[str, Any] = {
    "measurement": str,
    "measurement_sha256": str,
    "solver": str,
    "prior": str,
    "prior_sha256": str,
    "samples": Annotated[int, Ge(1)],
    "seed": int,
    "device": str,
    "dtype": Literal["auto", "float32", "bfloat16"],
    "settings": dict[str, Any],
    "width": Annotated[int, Ge(1)],
    "threads": Annotated[int, Ge(1)],
    "save_samples": bool,
    "antithetic": bool,
}


def resolve(flags: dict[str, Any], pairs: dict[str, str], steps: int | None, config: Path | None) -> dict[str, Any]:
    """Every setting of the run, checked; flag over --set over --config over default. Imports no torch."""
    given = runs.read_yaml(config) if config else {}
    for key in given:
        if key not in RUN_FILE:
            raise ConfigError(f"{config} has an unknown key {key!r}{suggest(str(key), RUN_FILE)}")
    given = validate(str(config), RUN_FILE, given)
    if config and is_prior_file(given.get("prior") or ""):
        given["prior"] = str(config.parent / given["prior"])
    run = {k: v for k, v in given.items() if k not in DEFAULTS}
    if flags["prior"] is not None:
        run.pop("prior_sha256", None)
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
    if run["dtype"] not in DTYPES:
        raise ConfigError(f"--dtype {run['dtype']!r} is unknown{suggest(run['dtype'], DTYPES)}")
    return run


def source_of(run: dict[str, Any], config: Path | None) -> Path:
    """The measurement that a run file names; it must be the very file of that run."""
    if config is None or "measurement" not in run:
        raise ConfigError("no measurement; give a .h5 file, or a --config that names one")
    source = config.parent / str(run["measurement"])
    if source.is_file() and sha256(source) != run.get("measurement_sha256"):
        raise FileError(f"{source} is not the file of that run (checksum differs); name it as an argument to use it")
    return source
