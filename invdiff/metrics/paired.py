"""Methods compared on the scans that they share, by their rows of figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import ConfigError
from invdiff.metrics.rows import MISSING, number
from invdiff.metrics.statistics import difference, holm

Row = Mapping[str, Any]
Place = tuple[str, str, str | None]  # scan, frame, region
Table = dict[Place, Row]
Floats = NDArray[np.float64]


def compare(
    methods: Mapping[str, Sequence[Row]],
    metrics: Sequence[str] = ("psnr", "ssim"),
    *,
    scan: str | None = None,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Each two methods on the scans and frames that both have, region by region and metric by metric.

    Args:
        methods: rows by method, with columns `name` or `image`, `frame`, `protocol`, `protocol_hash`, the metrics and,
            where there are any, `slice`, `region`, `voxels`; numbers may be text.
        metrics: columns.
        scan: the column that names the scan; None takes `name`, or else `image`.
        confidence: of the bootstrap intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Rows of metric, region (None for the volume), methods a and b, what `statistics.difference` says of them,
        protocol, protocol_hash and p_holm, which is p corrected for all tests of the call. And what was left out: rows
        of slices, which are no independent pairs, rows without a partner, figures that are missing or infinite.

    Raises:
        ConfigError: less than two methods, a column that is missing, two rows of one scan, frame and region, rows of
            different protocols or masks, or nothing in common.
    """
    if len(methods) < 2:
        raise ConfigError(f"a comparison takes two methods, got {len(methods)}")
    left: dict[str, None] = {}  # each once, in order
    settings: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    tables = {name: _table(name, rows, metrics, scan, left) for name, rows in methods.items()}
    found = []
    for region in _regions(tables):
        for metric in metrics:
            for a, b in combinations(tables, 2):
                two = {name: {p: row for p, row in tables[name].items() if p[2] == region} for name in (a, b)}
                if places := _shared(two, metric, left):
                    protocol = _protocol(two, places)
                    figures = [np.array([number(table[p][metric]) for p in places]) for table in two.values()]
                    of = {"metric": metric, "region": region, "a": a, "b": b}
                    found.append(of | difference(*figures, **settings) | protocol)
    if not found:
        raise ConfigError(
            f"{' and '.join(tables)} share no scan and frame with finite {' or '.join(metrics)}; --scan names the "
            "column that tells scans apart"
        )
    return _corrected(found), list(left)


def _table(name: str, rows: Sequence[Row], metrics: Sequence[str], scan: str | None, left: dict[str, None]) -> Table:
    """Rows by scan, frame and region."""
    if not rows:
        raise ConfigError(f"{name} has no rows")
    scan = scan or ("name" if "name" in rows[0] else "image")
    for column in (scan, *metrics, "protocol", "protocol_hash"):
        if column not in rows[0]:
            raise ConfigError(f"{name} has no column {column!r}; it has {', '.join(rows[0])}")
    out: Table = {}
    for row in rows:
        if row.get("slice") not in MISSING:
            left[f"rows of slices in {name}: slices of one scan are no independent pairs"] = None
            continue
        place = (str(row[scan]), str(row.get("frame", 0)), None if (r := row.get("region")) in MISSING else str(r))
        if place in out:
            raise ConfigError(
                f"{name} has two rows of {_told(place)}; --scan names the column that tells scans apart, --by that of "
                "methods"
            )
        for metric in metrics:
            number(row[metric], f"{name}, {_told(place)}: {metric}")
        out[place] = row
    return out


def _regions(tables: Mapping[str, Table]) -> list[str | None]:
    """The volume, then regions as they come."""
    found = dict.fromkeys(place[2] for table in tables.values() for place in table)
    return sorted(found, key=lambda region: region is not None)


def _shared(two: Mapping[str, Table], metric: str, left: dict[str, None]) -> list[Place]:
    """Places of which both methods have a finite figure."""
    places = dict.fromkeys(place for table in two.values() for place in table)
    out = []
    for place in places:
        having = [name for name, table in two.items() if place in table]
        bad = [name for name in having if not math.isfinite(number(two[name][place][metric]))]
        if len(having) < len(two):
            left[f"{_told(place)}: only in {having[0]}"] = None
        elif bad:
            left[f"{_told(place)}: {metric} is {two[bad[0]][place][metric]} in {bad[0]}"] = None
        else:
            out.append(place)
    return out


def _protocol(two: Mapping[str, Table], places: Sequence[Place]) -> dict[str, str]:
    """The protocol that all rows have."""
    by_hash = {str(table[p]["protocol_hash"]): (name, table[p]) for name, table in two.items() for p in places}
    if len(by_hash) > 1:
        (a, first), (b, second) = list(by_hash.values())[:2]
        told = "{protocol} ({protocol_hash})".format_map
        raise ConfigError(
            f"rows of different protocols are not compared: {a} was measured by {told(first)}, {b} by {told(second)}; "
            "evaluate all by one --protocol, with masks or without"
        )
    for place in places:
        one, other = (table[place].get("voxels") for table in two.values())
        if one not in MISSING and other not in MISSING and number(one) != number(other):
            counts = f"{' and '.join(two)} have {one} and {other} voxels"
            raise ConfigError(f"{_told(place)}: {counts}; evaluate both in the same mask")
    ((_, row),) = by_hash.values()
    return {key: str(row[key]) for key in ("protocol", "protocol_hash")}


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With Holm's p, over all that were tested."""
    tested = iter(holm([row["p"] for row in rows if row["p"] is not None]))
    return [row | {"p_holm": None if row["p"] is None else next(tested)} for row in rows]


def _told(place: Place) -> str:
    scan, frame, region = place
    return f"{scan} frame {frame}" + (f" {region}" if region else "")
