"""What a folder of results holds: its scans, their volumes, and what was said of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff import catalogue
from invdiff.errors import ConfigError, FileError
from invdiff.files import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN = "run_report.json"
SUMS = "output_sha256"  # what only the sidecar of a reconstruction has
ENDINGS = (".nii.gz", ".nii")
DEMO = {"reference": "truth", "direct": "zero_filled", "tv": "tv"}
FAILURE = ("name", "input", "kind", "reason")
SHOWN = ("reference", "direct", "tv", "mean", "std")


@dataclass(frozen=True)
class Case:
    """One scan.

    Args:
        name: as the run calls it.
        subject: its BIDS label, or None.
        volumes: file by role, in the order shown; `mean` always, `reference`, `direct` (the image a reader compares
            with), `tv` and `std` where there are such.
        metrics: rows, each with its `frame`, and its `method` where several were compared.
        facts: the sidecar of the reconstruction, as it is.
        warnings: sentences.
        seconds: what the scan took, or None.
    """

    name: str
    volumes: dict[str, Path]
    subject: str | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """The scans of one folder, what failed, what was set, what decided about the numbers, and whom to cite."""

    title: str
    cases: list[Case]
    failures: list[dict[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    citations: list[str] = field(default_factory=list)


def read(folder: Path, *, reference: Path | None = None, direct: Path | None = None) -> Run:
    """The run in a folder that `batch`, `demo` or `reconstruct` wrote.

    Args:
        folder: the outputs.
        reference: what its one scan should be, where the run does not know.
        direct: another image of it to compare with.

    Raises:
        FileError: no such folder, nothing in it to report, a record that is damaged, or a volume that it lists and
            that is missing or another.
        ConfigError: a reference or an input for several scans.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder; name the output folder of `invdiff batch`, `demo` or `reconstruct`")
    run = _batch(folder) if (folder / RUN).exists() else _single(folder)
    named = {role: path for role, path in (("reference", reference), ("direct", direct)) if path}
    if not named:
        return run
    if len(run.cases) != 1:
        raise ConfigError(f"--reference and --input belong to one scan, {folder} holds {len(run.cases)}")
    for path in named.values():
        if not path.is_file():
            raise FileError(f"{path}: no such file; check the name")
    case = run.cases[0]
    return replace(run, cases=[replace(case, volumes=_ordered(case.volumes | named))])


def papers(methods: Iterable[str]) -> list[str]:
    """What to cite for solvers and denoisers, as the catalogue has it; nothing for those without a paper."""
    known = catalogue.load()["solvers"] | catalogue.load()["denoising"]
    found = [known.get(method, {}).get("paper") for method in methods]
    return [paper for paper in dict.fromkeys(found) if paper]


def _ordered(volumes: dict[str, Path]) -> dict[str, Path]:
    return {role: volumes[role] for role in SHOWN if role in volumes}


def _json(path: Path) -> Any:  # noqa: ANN401 - what the file holds
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise FileError(f"{path} is not JSON ({e}); write it again") from e


def _batch(folder: Path) -> Run:
    record = folder / RUN
    content = _json(record)
    try:
        cases = [_result(record, row) for row in content["results"]]
        failures = [{key: str(row.get(key, "")) for key in FAILURE} for row in content["failures"]]
        citations = [_citation(row) for row in content.get("citations", [])]
    except (KeyError, TypeError, AttributeError) as e:
        raise FileError(f"{record} is no record of a batch ({e!r}); name the output folder of `invdiff batch`") from e
    if not cases and not failures:
        raise FileError(f"{record} lists no scan, finished or failed; there is nothing to report")
    count = len(cases) + len(failures)
    kept = ("command_line", "versions", "machine", "seconds", "protocol")
    return Run(
        title=cases[0].name if cases and count == 1 else f"{content.get('command', 'batch')} of {count} scans",
        cases=cases,
        failures=failures,
        settings=content.get("settings", {}),
        provenance={k: content[k] for k in kept if k in content},
        citations=citations,
    )


def _result(record: Path, row: dict[str, Any]) -> Case:
    files = {role: record.parent / name for role, name in row["files"].items()}
    if "mean" not in files:
        raise FileError(f"{record} lists no mean for {row['name']}; run the batch again")
    listed = {role: path for role, path in files.items() if role in (*SHOWN, "sidecar")}
    for role, path in listed.items():
        if not path.is_file():
            again = "pass the folder that holds it" if role == "reference" else "run the batch again, or put it back"
            raise FileError(f"{record} lists {path} ({role} of {row['name']}), which is not there; {again}")
    facts = _json(files["sidecar"]) if "sidecar" in files else {}
    volumes = _ordered(files)
    _check_sums(record, volumes, facts)
    return Case(
        name=row["name"],
        subject=row.get("subject"),
        volumes=volumes,
        metrics=list(row.get("metrics", [])),
        facts=facts,
        warnings=list(row.get("warnings", [])),
        seconds=row.get("seconds"),
    )


def _citation(row: dict[str, Any]) -> str:
    parts = [row.get(key) for key in ("title", "venue", "year", "doi")]
    text = ", ".join(str(part) for part in parts if part)
    return f"{row['authors']}: {text}" if row.get("authors") else text


def _single(folder: Path) -> Run:
    """The volumes that a .json of a reconstruction stands beside."""
    found = [(path, _json(path)) for path in sorted(folder.glob("*.json"))]
    cases = [_reconstruction(path, facts) for path, facts in found if isinstance(facts, dict) and SUMS in facts]
    if not cases:
        what = "volumes, but no record of a run" if any(folder.glob("*.nii*")) else "no volumes and no record of a run"
        raise FileError(
            f"{folder} holds {what} ({RUN}, or a .json beside a volume); name an output folder of `invdiff batch`, "
            "`demo` or `reconstruct`"
        )
    methods = [(case.facts.get("solver") or case.facts.get("method") or {}).get("kind", "") for case in cases]
    title = cases[0].name if len(cases) == 1 else f"{len(cases)} reconstructions"
    return Run(title=title, cases=cases, citations=papers(methods))


def _reconstruction(path: Path, facts: dict[str, Any]) -> Case:
    listed = facts[SUMS]
    roles = {"mean": path.stem, "std": f"{path.stem}_std"}
    demo = "zero_filled" in facts.get("metrics", {})
    names = {role: _listed(stem, listed) for role, stem in (roles | (DEMO if demo else {})).items()}
    if names["mean"] is None:
        raise FileError(f"{path} lists no volume {path.stem}.nii.gz; reconstruct again")
    volumes = _ordered({role: path.with_name(name) for role, name in names.items() if name})
    for volume in volumes.values():
        if not volume.is_file():
            raise FileError(f"{path} lists {volume.name}, which is not there; reconstruct again, or put it back")
    _check_sums(path, volumes, facts)
    stages = facts.get("seconds")
    seconds = facts.get("total_seconds", sum(stages.values()) if isinstance(stages, dict) else stages)
    metrics = [{"method": name, "frame": 0, **row} for name, row in facts.get("metrics", {}).items()]
    name = "invdiff demo" if demo else path.stem
    return Case(name, volumes, None, metrics, facts, list(facts.get("warnings", [])), seconds)


def _listed(stem: str, listed: dict[str, str]) -> str | None:
    return next((stem + ending for ending in ENDINGS if stem + ending in listed), None)


def _check_sums(record: Path, volumes: dict[str, Path], facts: dict[str, Any]) -> None:
    """A page that tells one volume's story beside another's picture would be worse than none."""
    told = facts.get(SUMS, {})
    for path in volumes.values():
        if path.name in told and sha256(path) != told[path.name]:
            raise FileError(f"{path} is not the file that {record} tells of (checksum differs); run it again")
