"""`--fail-under`: what a row must reach, and a JUnit file that says which did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from invdiff.errors import ConfigError, GateError
from invdiff.files import write_atomic
from invdiff_cli.flags import assignments

LEAST = ("psnr", "ssim")
MOST = ("nrmse", "nmse", "hfen", "data_residual")


@dataclass(frozen=True)
class Case:
    """A row held against a gate; `failure` says how it fell short, None if it did not."""

    image: str
    where: str
    rule: str
    protocol: str | None
    failure: str | None


def gates(pairs: Sequence[str]) -> dict[str, float]:
    """Values by metric, from METRIC=VALUE.

    Raises:
        ConfigError: another metric, or no number.
    """
    found = assignments(list(pairs), "--fail-under METRIC=VALUE")
    for name, value in found.items():
        try:
            ok = name in LEAST + MOST and math.isfinite(float(value))
        except ValueError:
            ok = False
        if not ok:
            raise ConfigError(f"--fail-under takes one of {', '.join(LEAST + MOST)} and a number, got {name}={value}")
    return {name: float(value) for name, value in found.items()}


def cases(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> list[Case]:
    """Each row with each gate of a figure that such rows have; one that could not be measured (NaN) falls short."""
    return [_case(row, name, limit) for row in rows for name, limit in limits.items() if row.get(name) is not None]


def check(found: Sequence[Case]) -> None:
    """Raise GateError, which names every row that fell short."""
    failures = [case.failure for case in found if case.failure]
    if failures:
        raise GateError("; ".join(failures))


def write_junit(path: Path, found: Sequence[Case]) -> None:
    """One test case per row and gate, as CI systems show them."""
    from xml.etree import ElementTree

    counts = {"tests": str(len(found)), "failures": str(sum(c.failure is not None for c in found)), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "invdiff evaluate", **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for protocol in dict.fromkeys(case.protocol for case in found if case.protocol):
        ElementTree.SubElement(properties, "property", {"name": "protocol", "value": protocol})
    for case in found:
        told = ElementTree.SubElement(
            suite, "testcase", {"classname": case.image, "name": f"{case.where}: {case.rule}", "time": "0"}
        )
        if case.failure:
            ElementTree.SubElement(told, "failure", {"type": "GateError", "message": case.failure})
    ElementTree.indent(root)
    tree = ElementTree.ElementTree(root)
    write_atomic(path, partial(tree.write, encoding="utf-8", xml_declaration=True))


def _case(row: Mapping[str, Any], name: str, limit: float) -> Case:
    value, least = row[name], name in LEAST
    where = " ".join(f"{k} {row[k]}" for k in ("frame", "slice", "region") if row.get(k) is not None)
    reached = value >= limit if least else value <= limit
    told = "n/a" if math.isnan(value) else f"{value:.4f}"
    failure = None if reached else f"{where}: {name} is {told}, the gate is {limit:g}"
    protocol = f"{row['protocol']} ({row['protocol_hash']})" if "protocol" in row else None
    return Case(row["image"], where, f"{name} {'>=' if least else '<='} {limit:g}", protocol, failure)
