"""What a run leaves about all scans: results.tsv, failures.tsv, run_report.json."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from invdiff.files import write_text

REPORT = "run_report.json"
HEAD = ("name", "input", "frame", "method")
TAIL = ("data_residual", "chi2", "seconds", "warnings")
FAILURES = ("name", "input", "kind", "reason")


def failed_before(folder: Path) -> dict[str, dict[str, Any]]:
    """Failures of the last run, by key; empty without a report that can be read."""
    try:
        return {row["key"]: row for row in json.loads((folder / REPORT).read_text())["failures"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(folder: Path, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """All three, each atomically and in the order of the names.

    Args:
        folder: of the run.
        rows: of `work`: results, and failures, which have a `kind`.
        facts: of the run.
    """
    rows = sorted(rows, key=lambda row: row["name"])
    results, failures = ([r for r in rows if ("kind" in r) == failed] for failed in (False, True))
    write_text(folder / "results.tsv", _tsv(*_results(results)))
    write_text(folder / "failures.tsv", _tsv(list(FAILURES), failures))
    report = {"command": "batch", "intended_use": "research only", **facts, "results": results, "failures": failures}
    write_json(folder / REPORT, report)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Atomically; what is infinite is null."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _results(results: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """One line per scan and frame."""
    lines, measured = [], []
    for row in results:
        for frame in row["metrics"] or [{}]:
            lines.append(row | frame | {"warnings": "; ".join(row["warnings"])})
            measured += [name for name in frame if name not in measured and name != "frame"]
    return [*HEAD, *measured, *TAIL], lines


def _tsv(columns: list[str], lines: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    table.writerows([[_cell(line.get(name)) for name in columns] for line in lines])
    return out.getvalue()


def _cell(value: Any) -> str:  # noqa: ANN401 - of a table
    if value is None or value == "":
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("\t", " ").replace("\n", " ")


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON, which knows no infinity: the PSNR of equal volumes is null
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
