"""Rows of figures, each with its protocol, and their means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from invdiff.errors import ConfigError

METRICS = ("psnr", "ssim", "nrmse", "nmse", "hfen")
MISSING = ("", "n/a", None)


def number(value: Any, of: str = "a cell") -> float:  # noqa: ANN401 - a cell
    """A cell, of a row or of a file, as a number; NaN where there is none. `of` is what a message calls it.

    Raises:
        ConfigError: text that is no number.
    """
    if value in MISSING:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{of} is {value!r}, which is no number") from None


def _protocols(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names by hash of the protocols of rows."""
    return {str(row["protocol_hash"]): str(row["protocol"]) for row in rows}


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each metric over the rows that have it; infinite where one is.

    Raises:
        ConfigError: rows of different protocols.
    """
    if len(found := _protocols(rows)) > 1:
        told = " and ".join(f"{name} ({hash_})" for hash_, name in found.items())
        raise ConfigError(f"rows of the protocols {told} are not averaged; measure all of them by one")
    out = {}
    for metric in METRICS:
        values = [v for row in rows if not math.isnan(v := number(row.get(metric)))]
        if values:
            out[metric] = math.fsum(values) / len(values)
    return out
