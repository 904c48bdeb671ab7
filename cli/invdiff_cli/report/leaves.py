"""Which pages a report has, and which scans are on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from invdiff_cli.report.cases import Case, Run


@dataclass(frozen=True)
class Leaf:
    """A page of scans: its file, what it is called, and the scans on it."""

    file: str
    title: str
    cases: list[Case]


def leaves(run: Run, first: Path) -> list[Leaf]:
    """One per subject, or per scan without one, beside the `first`; where there is only one, it is the first."""
    groups: dict[str, list[Case]] = {}
    for case in run.cases:
        groups.setdefault(f"sub-{case.subject}" if case.subject else case.name, []).append(case)
    if len(groups) == 1:
        return [Leaf(first.name, run.title, run.cases)]
    return [
        Leaf(f"{first.stem}_{name}{first.suffix}", title, cases)
        for name, (title, cases) in zip(_file_names(groups), groups.items(), strict=True)
    ]


def _file_names(titles: Iterable[str]) -> list[str]:
    """Names for any file system: a second one that reads like another, whatever the case, gets a number."""
    out: list[str] = []
    for title in titles:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", title)
        alike = sum(re.sub(r"-\d+$", "", other).lower() == name.lower() for other in out)
        out.append(f"{name}-{alike + 1}" if alike else name)
    return out
