"""Quantiles and exceedance maps of a reconstruction: flags, names of files, what the sidecar says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff.errors import ConfigError, FileError
from invdiff.files import sha256
from invdiff_cli import runs

if TYPE_CHECKING:
    from invdiff.calibration import Calibration
    from invdiff.predictive import Law
    from invdiff.reconstruction import Reconstruction
    from invdiff.volumes import Volume

FLAGS = ("quantiles", "exceed", "calibration")
USUAL = [0.05, 0.95]


def settle(run: dict[str, Any], given: dict[str, str | None], config: Path | None) -> None:
    """Put quantiles, exceed and calibration into `run`, flag over run file; `none` takes out what a run file says.

    Raises:
        ConfigError: quantiles that are none, values that are no numbers, a single sample.
        FileError: the calibration of a run file is not the one of that run.
    """
    if run.get("calibration") and given["calibration"] is None and config:
        run["calibration"] = str(config.parent / run["calibration"])
        if Path(run["calibration"]).is_file() and sha256(Path(run["calibration"])) != run.get("calibration_sha256"):
            told = "is not the calibration of that run (checksum differs)"
            raise FileError(f"{run['calibration']} {told}; name it by --calibration to use it")
    for key in FLAGS:
        if given[key] is not None:
            run[key] = given[key] if key == "calibration" else _numbers(key, given[key] or "")
            if str(given[key]).lower() == "none":
                run.pop(key)
    run.pop("calibration_sha256", None)
    if run.get("calibration") and not run.get("quantiles"):
        run["quantiles"] = list(USUAL)
    check_samples(run)


def check_samples(run: dict[str, Any]) -> None:
    """Raise ConfigError where intervals are asked of a single sample."""
    if run["samples"] < 2 and any(run.get(key) for key in FLAGS):
        raise ConfigError(
            f"--quantiles, --exceed and --calibration need the spread of two samples or more, this run has "
            f"{run['samples']}; give --samples 8, or a solver that draws samples"
        )


def paths(output: Path, run: dict[str, Any]) -> list[Path]:
    """The files: recon_q05.nii.gz of 0.05, recon_above-1000.nii.gz of 1000."""
    return [runs.part(output, name) for name in (*_quantiles(run), *_exceedances(run))]


def calibration(run: dict[str, Any]) -> Calibration | None:
    """That of the run, read and checked."""
    if not run.get("calibration"):
        return None
    from invdiff.calibration import load

    return load(Path(run["calibration"]))


@dataclass(frozen=True)
class Found:
    """The intervals of a result.

    Attributes:
        result: with mean and spread.
        law: of what lies at a voxel; None where nothing was asked for.
        quantiles, exceedances: probability or value, by name of the map: q05, above-1000.
        facts: for the sidecar.
        warnings: sentences.
    """

    result: Reconstruction
    law: Law | None
    quantiles: dict[str, float]
    exceedances: dict[str, float]
    facts: dict[str, Any] | None
    warnings: list[str]

    def maps(self) -> Iterator[tuple[str, Volume]]:
        """Name and volume, one after the other."""
        mean, std = self.result.mean, self.result.std
        if self.law is None or std is None:
            return
        for name, q in self.quantiles.items():
            yield name, mean.like(self.law.quantile_map(mean.data, std.data, q))
        for name, value in self.exceedances.items():
            yield name, mean.like(self.law.exceedance_map(mean.data, std.data, value))


def found(
    result: Reconstruction, named: Callable[[str], Path], run: dict[str, Any], wider: Calibration | None
) -> Found:
    """What was asked for, by the law of the samples or by the calibration; `named` gives the file of a map."""
    quantiles, exceedances = _quantiles(run), _exceedances(run)
    if not (quantiles or exceedances):
        return Found(result, None, {}, {}, None, [])
    from invdiff.predictive import Law

    facts = result.facts
    check_samples(run | {"samples": len(facts["seeds"])})  # one of a deterministic bridge, which only its card tells
    how = {"samples": len(facts["seeds"]), "antithetic": facts["antithetic"]}
    law = wider.law(**how, unit=facts["intensity_unit"]) if wider else Law.of(**how)
    told: dict[str, Any] = {"law": {"kind": "student", "freedom": law.freedom, "scale": law.scale, "floor": law.floor}}
    for key, maps in (("quantiles", quantiles), ("exceed", exceedances)):
        told[key] = {named(name).name: number for name, number in maps.items()}
    told |= {"calibrated": wider is not None, "calibration": None}
    if wider is None:
        return Found(result, law, quantiles, exceedances, told, [])
    path = Path(run["calibration"])
    told["calibration"] = {"file": path.name, "sha256": sha256(path), "levels": wider.levels, "factors": wider.factors}
    return Found(result, law, quantiles, exceedances, told, _warnings(path.name, wider, facts, quantiles))


def what(name: str) -> str:
    """A map in words, by its name."""
    if name.startswith("above-"):
        return f"Probability to lie above {name.removeprefix('above-')}, in stored units, voxel by voxel"
    return f"Quantile of the posterior, voxel by voxel: {name}"


def record(run: dict[str, Any], folder: Path) -> dict[str, str]:
    """Make the calibration relative to the run file's folder, in place; its checksum."""
    if not run.get("calibration"):
        return {}
    path = Path(run["calibration"])
    run["calibration"] = runs.relative(path, folder)
    return {"calibration_sha256": sha256(path)}


def _warnings(name: str, wider: Calibration, facts: dict[str, Any], quantiles: dict[str, float]) -> list[str]:
    from invdiff.calibration import method

    out = []
    if others := wider.differences(method(facts)):
        out.append(f"{name} was learned with {'; '.join(others)}: its intervals may not cover what they say")
    beyond = [q for q in quantiles.values() if abs(2 * q - 1) > wider.levels[-1]]
    if beyond:
        told = f"{name} knows levels up to {wider.levels[-1]:g}"
        out.append(f"{told}; its factor there is taken for quantile{'s' * (len(beyond) > 1)} {_listed(beyond)}, too")
    return out


def _numbers(flag: str, text: str) -> list[float]:
    try:
        values = sorted({float(part) for part in text.split(",")}) if text.lower() != "none" else []
    except ValueError:
        values = [math.nan]
    if flag == "quantiles" and not all(1e-9 <= v <= 1 - 1e-9 for v in values):
        raise ConfigError(f"--quantiles takes probabilities between 0 and 1, e.g. 0.05,0.95; got {text}")
    if not all(map(math.isfinite, values)):
        raise ConfigError(f"--exceed takes values in stored units, e.g. 100 or -300,50; got {text}")
    return values


def _quantiles(run: dict[str, Any]) -> dict[str, float]:
    """By the digits after the point, two at least."""
    digits = {q: f"{q:.12f}".partition(".")[2].rstrip("0").ljust(2, "0") for q in run.get("quantiles") or ()}
    return {f"q{d}": q for q, d in digits.items()}


def _exceedances(run: dict[str, Any]) -> dict[str, float]:
    return {f"above-{v:.10g}": v for v in run.get("exceed") or ()}


def _listed(values: list[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)
