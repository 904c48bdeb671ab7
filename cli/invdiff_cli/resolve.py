"""Where each setting of a run comes from: flag over --set over run file over default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from invdiff import catalogue
from invdiff.config import parse_noise, suggest, validate
from invdiff.errors import ConfigError, FileError
from invdiff.files import is_prior_file, sha256
from invdiff_cli import images, runs
from invdiff_cli.presets import PRESETS

Grid = Literal["auto", "scan", "prior"]
PRIORS = ("prior", "auxiliary")
DTYPES = ("auto", "float32", "bfloat16")
DEFAULTS = {"solver": "diffpir", "prior": None, "samples": 8, "seed": 0, "device": "auto", "dtype": "auto"}
OF_IMAGES = ("image", "image_sha256", "acquisition", "acquisition_sha256", "axis", "sigma")
RUN_FILE: dict[str, Any] = {
    "measurement": str,
    "measurement_sha256": str,
    "image": str,
    "image_sha256": str,
    "acquisition": dict[str, Any],
    "acquisition_sha256": dict[str, str],
    "axis": Annotated[int, Ge(0), Le(2)],
    "sigma": Annotated[float, Ge(0)],
    "solver": str,
    "prior": str,
    "prior_sha256": str,
    "ladder_sha256": str,
    "weights_sha256": str,
    "samples": Annotated[int, Ge(1)],
    "seed": int,
    "device": str,
    "dtype": Literal["auto", "float32", "bfloat16"],
    "settings": dict[str, Any],
    "auxiliary": str,
    "auxiliary_sha256": str,
    "planes": list[Annotated[int, Ge(0), Le(2)]],
    "ratio": Annotated[float, Gt(1)],
    "grid": Grid,
    "steer": dict[str, Any],
    "warm": dict[str, Any],
    "width": Annotated[int, Ge(1)],
    "slices": Annotated[int, Ge(1)],
    "window": Annotated[int, Ge(16)],
    "threads": Annotated[int, Ge(1)],
    "save_samples": bool,
    "save_steer": bool,
    "antithetic": bool,
    "stages": list[Literal["simulate", "reconstruct", "evaluate"]],  # of a batch, as the next
    "simulation": dict[str, Any],
    "quantiles": list[Annotated[float, Gt(0), Lt(1)]],
    "exceed": list[float],
    "calibration": str,
    "calibration_sha256": str,
}


def resolve(
    flags: dict[str, Any], pairs: dict[str, str], steps: int | None, config: Path | None, *, steer: bool | None = None
) -> dict[str, Any]:
    """Every setting of the run, checked; flag over --set over --preset over --config over default. Imports no torch."""
    given = runs.read_yaml(config) if config else {}
    for key in given:
        if key not in RUN_FILE:
            raise ConfigError(f"{config} has an unknown key {key!r}{suggest(str(key), RUN_FILE)}")
    given = validate(str(config), RUN_FILE, given)
    steering = {k.removeprefix("steer."): v for k, v in pairs.items() if k.startswith("steer.")}
    pairs = {
        k.removeprefix("solver."): v for k, v in pairs.items() if not k.startswith(("acquisition.", "steer.", "warm."))
    }
    if config:
        runs.find_files(given, config, {*pairs, *steering})
    for key in PRIORS if config else ():
        if is_prior_file(given.get(key) or ""):
            given[key] = str(config.parent / given[key])  # type: ignore[union-attr]
    if config and "acquisition" in given:
        given["acquisition"] = _acquisition(config, given)
    before = str(given.get("solver", "")).lower()
    if preset := flags.pop("preset", None):
        given |= PRESETS[preset]
    run = {k: v for k, v in given.items() if k not in DEFAULTS}
    if flags["prior"] is not None:
        run.pop("prior_sha256", None)
    run |= {k: flags[k] if flags[k] is not None else given.get(k, default) for k, default in DEFAULTS.items()}
    run["solver"] = str(run["solver"]).lower()
    same_solver = str(given.get("solver", run["solver"])).lower() == run["solver"]
    needs_prior = catalogue.find("solvers", run["solver"])["needs"].get("prior") == "Prior"
    kept = run.pop("steer", None)
    if not needs_prior or before == "scd" != run["solver"]:  # nothing to steer, or scd's own steering
        kept = None
    settings = (given.get("settings", {}) if same_solver else {}) | pairs
    if steps is not None:
        settings["steps"] = steps
    run["settings"] = catalogue.check("solvers", run["solver"], settings)
    if steer is not False and (steer or steering or kept is not None or run["solver"] == "scd"):
        run["steer"] = catalogue.check("steering", "steer", (kept or {}) | steering)
    if catalogue.find("solvers", run["solver"])["gives"] == "point estimate":
        run["samples"] = 1
    if run["samples"] < 1:
        raise ConfigError(f"--samples must be at least 1, got {run['samples']}")
    if run["dtype"] not in DTYPES:
        raise ConfigError(f"--dtype {run['dtype']!r} is unknown{suggest(run['dtype'], DTYPES)}")
    return run


def warm_of(flag: str | None, pairs: dict[str, str], run: dict[str, Any]) -> dict[str, Any]:
    """Along what warm starts go and from which level, flag and --set over run file; nothing for none.

    Raises:
        ConfigError: --set warm.KEY without a direction; a setting that is unknown or out of range.
    """
    settings = {k.removeprefix("warm."): v for k, v in pairs.items() if k.startswith("warm.")}
    along = {} if flag is None else {"along": flag}
    given = ({} if flag == "none" else run.get("warm", {})) | settings | along
    if flag == "none" or "along" not in given:
        if given.keys() - {"along"}:
            raise ConfigError("--set warm.KEY=VALUE is for warm starts; give --warm frames or --warm slices")
        return {}
    return {"warm": {k: v for k, v in catalogue.check("starts", "warm", given).items() if v is not None}}


def planes_of(flag: str | None, ratio: float | None, auxiliary: str | None, run: dict[str, Any]) -> dict[str, Any]:
    """Planes, ratio and prior of the other planes, flag over run file; nothing where slices are problems of their own.

    Raises:
        ConfigError: no axes, or one twice; a ratio of 1 or less; a ratio or another prior without several planes.
    """
    axes = run.get("planes") if flag is None else flag.split(",")
    if auxiliary is not None:
        run.pop("auxiliary_sha256", None)
    for name, value in (("ratio", ratio), ("auxiliary", auxiliary)):
        if value is not None and len(axes or ()) < 2:
            raise ConfigError(f"--{name} is for several planes; give --planes, e.g. --planes 2,0")
    if axes is None:
        return {}
    given = {"planes": axes, "ratio": run.get("ratio", 2.0) if ratio is None else ratio}
    checked = validate("--planes", {k: RUN_FILE[k] for k in given}, given)
    if len(set(checked["planes"])) != len(checked["planes"]) or not checked["planes"]:
        raise ConfigError(f"--planes takes stored axes, each once, e.g. 2 or 2,0; got {','.join(map(str, axes))}")
    if len(axes) < 2:
        run.pop("auxiliary", None)
        return checked
    return checked | ({"auxiliary": auxiliary} if auxiliary else {})


def grid_of(flag: Grid | None, run: dict[str, Any], *, changed: bool) -> Grid:
    """Whose voxels the unknown has: flag over run file, whose grid was that of its planes and its prior.

    Args:
        flag: --grid.
        run: as `resolve` made it.
        changed: whether planes or prior are given anew.
    """
    prior = catalogue.find("solvers", run["solver"])["needs"].get("prior") == "Prior"
    return flag or ("auto" if changed or not prior else run.get("grid", "auto"))


def resolve_image(run: dict[str, Any], source: Path | None, flags: dict[str, Any], pairs: dict[str, str]) -> None:
    """How an image was measured, for one step from it to its reconstruction; flag over --set over run file.

    Puts `acquisition`, `axis` and, where they are given, `sigma` or `noise` (a fraction) into `run`; takes them out
    where the source is a measurement, which knows them.

    Args:
        run: as `resolve` made it.
        source: the file named on the command line.
        flags: acquisition (its kind), axis, sigma and noise; None where not given.
        pairs: all of --set; those that begin with `acquisition.` count here.
    """
    pairs = {k.removeprefix("acquisition."): v for k, v in pairs.items() if k.startswith("acquisition.")}
    known = dict(run.pop("acquisition", {}))
    given = pairs or any(v is not None for v in flags.values())
    if source is not None and not images.is_image(source):
        if given:
            raise ConfigError(
                f"{source} is a measurement and knows how it was made; leave --acquisition, --axis, --noise and --sigma"
            )
        for key in OF_IMAGES:
            run.pop(key, None)
        return
    kind = flags["acquisition"] or known.get("kind")
    if kind is None and source is not None:
        raise FileError(
            f"{source} is an image; say how it was measured, e.g. --acquisition lowres (thickslices, blur, denoise, "
            "inpaint, ...), or give a measurement, .h5"
        )
    if kind is None and given:
        raise ConfigError("--axis, --noise, --sigma and --set acquisition.KEY=VALUE are for images; give --acquisition")
    if kind is None:
        return
    same = known.pop("kind", None) == str(kind).lower()
    run["acquisition"] = images.checked(str(kind), (known if same else {}) | pairs)
    run["axis"] = run.get("axis", 2) if flags["axis"] is None else flags["axis"]
    _level(run, flags)


def _level(run: dict[str, Any], flags: dict[str, Any]) -> None:
    """The noise level of an image: a flag wins over the run file."""
    if flags["sigma"] is not None and flags["noise"] is not None:
        raise ConfigError("--noise and --sigma both give the noise level; give one of them")
    if flags["sigma"] is not None:
        run["sigma"] = flags["sigma"]
    if flags["noise"] is not None:
        run.pop("sigma", None)
        run["noise"] = parse_noise(flags["noise"])


def source_of(run: dict[str, Any], config: Path | None) -> Path:
    """The measurement or image that a run file names; it must be the very file of that run."""
    kind = "image" if "image" in run else "measurement"
    if config is None or kind not in run:
        raise ConfigError("no measurement; give a .h5 file, or a --config that names one")
    source = config.parent / str(run[kind])
    if source.is_file() and sha256(source) != run.get(f"{kind}_sha256"):
        raise FileError(f"{source} is not the file of that run (checksum differs); name it as an argument to use it")
    return source


def _acquisition(config: Path, given: dict[str, Any]) -> dict[str, Any]:
    """That of a run file, its files as seen from here; they must be the very files of that run."""
    if "kind" not in given["acquisition"]:
        raise ConfigError(f"{config}: the acquisition has no kind; write e.g. acquisition: {{kind: lowres, factor: 2}}")
    acquisition = images.moved(given["acquisition"], config.parent, Path())
    if "acquisition_sha256" in given and images.checksums(acquisition) != given["acquisition_sha256"]:
        raise FileError(
            f"{config}: a file of the acquisition is not that of the run (checksum differs); name it by --set"
        )
    return acquisition
