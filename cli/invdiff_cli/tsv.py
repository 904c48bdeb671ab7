"""Rows as text: tab-separated with a header line, or JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.errors import FileError


def written(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """Tab-separated lines below a header line; n/a where there is no figure, inf where it is infinite."""
    columns = list(columns)
    return "\n".join(["\t".join(columns), *("\t".join(_cell(row.get(c)) for c in columns) for row in rows)])


def as_json(content: Any) -> str:  # noqa: ANN401 - what JSON can hold
    """Two-space indented. JSON knows no infinity and no NaN: both are null."""
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a file with a header line; see `lines`."""
    header, *rows = lines(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def lines(path: Path) -> list[list[str]]:
    """The cells of each line of a tab-separated file, at least one.

    Raises:
        FileError: missing, no such file, or lines of several lengths.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            first, *rest = csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; check the name") from None
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise FileError(f"{path} is no tab-separated text") from None
    for number, row in enumerate(rest, 2):
        if len(row) != len(first):
            raise FileError(f"{path}, line {number} has {len(row)} cells, the first line {len(first)}; are they tabs?")
    return [first, *rest]


def _cell(value: Any) -> str:  # noqa: ANN401 - a cell
    return "n/a" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _finite(content: Any) -> Any:  # noqa: ANN401 - as it came
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
