"""One line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]
OK: State = "ok"
WARNING: State = "warning"
PROBLEM: State = "problem"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, how that is, and what to do."""

    group: str
    name: str
    found: str
    state: State = OK
    todo: str = ""
