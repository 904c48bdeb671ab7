"""What the pages say: of one scan, and of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invdiff.reconstruction import WELL_FITTED
from invdiff_cli.report import measures, mosaic, plots, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invdiff_cli.report.cases import Case, Run
    from invdiff_cli.report.leaves import Leaf
    from invdiff_cli.report.views import Scan

Content = dict[str, Any]  # for the template


def of_scan(place: str, case: Case, scan: Scan) -> Content:
    """Pictures, metrics, plots, fit and settings of one scan; `place` is where links find it."""
    rows = case.metrics or measures.of_volume(scan)
    return {
        "place": place,
        "name": case.name,
        "summary": _summary(case.facts),
        "key_figures": _key_figures(case, rows),
        "warnings": case.warnings,
        "notes": scan.notes,
        "grid": scan.place,
        "pictures": [
            {"title": i.title, "uri": mosaic.picture(scan, i), "alt": mosaic.description(scan, i)}
            for i in scan.images.values()
        ],
        "metrics": tables.metrics(rows),
        "protocol": tables.protocol(rows),
        "plots": plots.slices(scan),
        "fit": tables.fit(case.facts),
        "verdict": verdict(_chi2(case.facts)),
        "settings": tables.settings(case.facts),
    }


def of_run(run: Run, pages: Sequence[Leaf], thumbnails: Sequence[str], here: str) -> Content:
    """The table of all scans, each with its picture and a link, their spread, and what was set for all.

    Args:
        run: the scans.
        pages: where they are.
        thumbnails: one per scan, in the order of the pages.
        here: the file of the page that says it.
    """
    settings = {"Settings of the run": run.settings, "Provenance of the run": run.provenance}
    several = len(run.cases) > 1
    return {
        "scans": _table(pages, thumbnails, here) if several or run.failures else None,
        "spread": _spread([row for case in run.cases for row in case.metrics]) if several else None,
        "settings": {title: tables.flat(content) for title, content in settings.items() if content},
    }


def _table(pages: Sequence[Leaf], thumbnails: Sequence[str], here: str) -> Content:
    names = tables.metric_names(row for leaf in pages for case in leaf.cases for row in case.metrics)
    pictures = iter(thumbnails)
    rows = []
    for leaf in pages:
        for n, case in enumerate(leaf.cases):
            scan = {
                "name": case.name,
                "link": f"{leaf.file if leaf.file != here else ''}#{place(n)}",
                "picture": next(pictures),
                "seconds": tables.number(case.seconds, "seconds"),
                "warnings": len(case.warnings),
            }
            for row in case.metrics or [{}]:
                cells = [tables.number(row.get(name), name) for name in names]
                rows.append(scan | {"frame": row.get("frame", 0), "cells": cells})
    columns = [tables.LABELS.get(name, name) for name in names]
    return {"columns": columns, "rows": rows, "frames": any(row["frame"] for row in rows)}


def place(number: int) -> str:
    """Where the n-th scan of a page is found."""
    return f"scan-{number + 1}"


def _spread(rows: Sequence[Content]) -> str | None:
    names = tables.metric_names(rows)
    values = {tables.LABELS.get(n, n): [row[n] for row in rows if tables.is_finite(row.get(n))] for n in names}
    values = {title: dots for title, dots in values.items() if len(dots) > 1}
    return plots.spread(values) if values else None


def _summary(facts: Content) -> str:
    """The method in one line."""
    named = {"gives": "", "solver": "kind", "method": "kind", "prior": "name", "acquisition": "kind"}
    found = [(facts.get(group), key) for group, key in named.items()]
    parts = [value.get(key) if isinstance(value, dict) else value for value, key in found]
    return ", ".join(str(part) for part in parts if part)


def _key_figures(case: Case, rows: Sequence[Content]) -> list[tuple[str, str]]:
    """The few numbers that a reader looks for first; the last row is the reconstruction's."""
    one = len({row.get("frame") for row in rows}) == 1
    row = rows[-1] if one else {}
    found = {
        "psnr": row.get("psnr"),
        "ssim": row.get("ssim"),
        "chi2": row.get("chi2", _chi2(case.facts)),
        "seconds": case.seconds,
    }
    return [(tables.LABELS[name], tables.number(v, name)) for name, v in found.items() if v is not None]


def _chi2(facts: Content) -> float | None:
    """Of a sample: the mean of several fits closer than any of them."""
    return ((facts.get("data_fit") or {}).get("first_sample") or {}).get("chi2")


def verdict(chi2: float | None) -> str:
    """A sentence for those who do not read chi2."""
    if chi2 is None:
        return ""
    low, high = WELL_FITTED
    if chi2 > high:
        return "The sample fits the measurement worse than its noise explains."
    if chi2 < low:
        return "The sample fits the measurement closer than its noise allows: it follows the noise."
    return "The sample fits the measurement as closely as its noise allows."
