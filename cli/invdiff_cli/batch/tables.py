"""What a run leaves about all scans: results.tsv, failures.tsv, run_report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from invdiff.files import write_text
from invdiff_cli import runs, tsv

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
    lines = frames(results)
    measured = dict.fromkeys(name for line in lines for name in line["metrics"] if name != "frame")
    write_text(folder / "results.tsv", tsv.written(lines, [*HEAD, *measured, *TAIL]) + "\n")
    write_text(folder / "failures.tsv", tsv.written(failures, FAILURES) + "\n")
    report = {"command": "batch", "intended_use": "research only", **facts, "results": results, "failures": failures}
    runs.write_json(folder / REPORT, report)


def frames(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per scan and frame; one for a scan without metrics."""
    return [
        row | frame | {"metrics": frame, "image": row["name"], "warnings": "; ".join(row["warnings"]) or None}
        for row in results
        for frame in row["metrics"] or [{}]
    ]
