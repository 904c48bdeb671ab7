"""Numbers and settings as text: what stands in the tables of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LABELS = {
    "psnr": "PSNR / dB",
    "ssim": "SSIM",
    "nrmse": "NRMSE",
    "hfen": "HFEN",
    "data_residual": "data residual",
    "chi2": "chi²",
    "seconds": "seconds",
}
DIGITS = {"psnr": "{:.2f}", "ssim": "{:.4f}", "nrmse": "{:.4f}", "hfen": "{:.4f}", "seconds": "{:.1f}"}
NOT_METRICS = ("frame", "data_range", "voxels", "mask", "nmse")  # nmse is the square of nrmse
METHODS = {"zero_filled": "zero-filled", "tv": "total variation, best weight"}
MEASUREMENT = ("acquisition", "measurement", "noise", "intensity_unit", "intensity_offset")
METHOD = ("gives", "solver", "prior", "planes", "grid", "warm", "steering", "seeds", "antithetic", "nfe_per_sample")
ELSEWHERE = ("batch", "command", "metrics", "warnings", "data_fit", "intended_use")  # in the page already


@dataclass(frozen=True)
class Table:
    """Headings, and rows of text under them; the first column names the row, the others hold numbers."""

    columns: list[str]
    rows: list[list[str]]


def number(value: object, name: str = "") -> str:
    """As precisely as the metric deserves; n/a for what is missing."""
    if value is None or value == "n/a":
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "∞" if value == math.inf else "n/a"
    return DIGITS.get(name, "{:.4g}").format(value)


def metric_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Metrics that some row has, the well-known ones first."""
    found = [k for row in rows for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)]
    names = [k for k in dict.fromkeys(found) if k not in NOT_METRICS]
    return sorted(names, key=lambda k: list(LABELS).index(k) if k in LABELS else len(LABELS))


def is_finite(value: object) -> bool:
    """Whether a metric can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)


def metrics(rows: list[dict[str, Any]]) -> Table | None:
    """A row per method or frame of one scan; nothing where there are no metrics."""
    names = metric_names(rows)
    if not names:
        return None
    several = len({row.get("frame", 0) for row in rows}) > 1
    cells = []
    for row in rows:
        method = row.get("method", "reconstruction")
        first = str(row.get("frame", 0)) if several else METHODS.get(method, method)
        cells.append([first, *(number(row.get(name), name) for name in names)])
    return Table(["frame" if several else "image", *(LABELS.get(name, name) for name in names)], cells)


def protocol(rows: list[dict[str, Any]]) -> str:
    """How the metrics were measured, as far as the rows say so."""
    said = {k: v for row in rows[:1] for k, v in row.items() if k not in (*metric_names(rows), "frame", "method")}
    return ", ".join(f"{k.replace('_', ' ')}: {number(v)}" for k, v in said.items())


def fit(facts: Mapping[str, Any]) -> Table | None:
    """How well a sample and the mean of all explain the measurement."""
    names = {"first_sample": "first sample", "mean": "mean"}
    found = {k: v for k, v in (facts.get("data_fit") or {}).items() if k in names and isinstance(v, dict)}
    if not found:
        return None
    rows = [[names[k], number(v.get("relative_residual")), number(v.get("chi2"))] for k, v in sorted(found.items())]
    return Table(["image", "relative residual", "chi²"], rows)


def settings(facts: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The facts of a reconstruction in three groups: how it was measured, how reconstructed, and all the rest."""
    rest = [k for k in facts if k not in (*MEASUREMENT, *METHOD, *ELSEWHERE)]
    groups = {"Measurement": MEASUREMENT, "Method": METHOD, "Provenance": rest}
    found = {title: flat({k: facts[k] for k in keys if k in facts}) for title, keys in groups.items()}
    return {title: rows for title, rows in found.items() if rows}


def flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings, one a row: `solver.kind`, `diffpir`; without those that are none."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.")
        elif value is not None:
            rows.append((name, _text(value)))
    return rows


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.7g}"
    return value if isinstance(value, str) else json.dumps(value)
