"""`invdiff compare`: whether one method is better than another on the same scans."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.errors import ConfigError
from invdiff_cli import tsv

COLUMNS = (
    "metric", "region", "a", "b", "pairs", "mean_a", "mean_b", "difference", "low", "high", "interval", "p", "p_holm",
    "note", "protocol", "protocol_hash",
)  # fmt: skip
Rows = list[dict[str, str]]


def compare(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="TSVs of `evaluate --tsv` or of a batch (results.tsv), one per method.", show_default=False
        ),
    ],
    metric: Annotated[list[str] | None, typer.Option(help="Column; may be repeated. [psnr, ssim]")] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Split one TSV by this column, e.g. method.", show_default=False),
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What tells scans apart. [name, or else image]")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals, between 0 and 1.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.", min=100)] = 9999,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_tsv: Annotated[bool, typer.Option("--tsv", help="Tab-separated, with a header line.")] = False,
) -> None:
    """The mean difference of each two methods, b - a, its bootstrap interval, and Wilcoxon's signed-rank test.

    Rows are matched by scan and frame, and of one protocol, or nothing is compared. p_holm is corrected for all
    tests made here.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"--confidence lies between 0 and 1, got {confidence:g}")
    methods = _split(tables, by) if by else _named(tables)
    from invdiff.metrics import paired

    settings: dict[str, Any] = {"scan": scan, "confidence": confidence, "resamples": resamples, "seed": seed}
    rows, left = paired.compare(methods, metric or ("psnr", "ssim"), **settings)
    for what in left:
        print(f"invdiff: left out: {what}", file=sys.stderr)
    if json:
        print(tsv.as_json(settings | {"comparisons": rows, "left_out": left}))
    else:
        print(tsv.written(rows, COLUMNS) if as_tsv else _table(rows, confidence))


def _split(tables: Sequence[Path], by: str) -> dict[str, Rows]:
    if len(tables) != 1:
        raise ConfigError(f"--by splits one TSV, got {len(tables)}")
    methods: dict[str, Rows] = {}
    for row in tsv.read(tables[0]):
        if by not in row:
            raise ConfigError(f"{tables[0]} has no column {by!r}; it has {', '.join(row)}")
        methods.setdefault(row[by], []).append(row)
    if len(methods) < 2:
        raise ConfigError(f"{tables[0]} holds {len(methods)} methods by {by}; a comparison takes two")
    return methods


def _named(tables: Sequence[Path]) -> dict[str, Rows]:
    """Tables by the method that each holds; by the names of files where that does not tell them apart."""
    if len(tables) < 2:
        raise ConfigError("a comparison takes two TSVs, or one and --by method")
    rows = [tsv.read(path) for path in tables]
    columns = [{row.get("method", "") for row in table} for table in rows]
    methods = [column.pop() if len(column) == 1 else "" for column in columns]
    for names in (methods, [path.stem for path in tables], [str(path) for path in tables]):
        if all(names) and len(set(names)) == len(names):
            return dict(zip(names, rows, strict=True))
    raise ConfigError(f"{', '.join(map(str, tables))}: a file is given twice")


def _table(rows: Sequence[dict[str, Any]], confidence: float) -> str:
    """Columns that line up; regions and notes where there are any."""
    interval = f"{100 * confidence:g} % interval"
    titles = ["metric", "region", "a", "b", "pairs", "mean a", "mean b", "b - a", interval, "p", "p Holm", "note"]
    columns = [c for c in zip(titles, *map(_cells, rows), strict=True) if any(c[1:])]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    lines = ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
    protocols = dict.fromkeys("{protocol} ({protocol_hash})".format_map(row) for row in rows)
    return "\n".join([*lines, f"protocol {', '.join(protocols)}"])


def _cells(row: dict[str, Any]) -> list[str]:
    names = [row["metric"], row["region"] or "", row["a"], row["b"], str(row["pairs"])]
    figures = [f"{row[k]:.4f}" for k in ("mean_a", "mean_b")] + [f"{row['difference']:+.4f}"]
    interval = "n/a" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"
    tests = ["n/a" if row[k] is None else f"{row[k]:.2g}" for k in ("p", "p_holm")]
    return [*names, *figures, interval, *tests, row["note"] or ""]
