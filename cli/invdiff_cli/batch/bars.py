"""Progress of a batch on stderr: a bar for each worker and one for all; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Lines:
    """One line per scan that is done, with the time that is left."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.began = total, 0, time.monotonic()

    def heard(self, event: dict[str, Any]) -> None:
        """Of a step; nothing is said."""

    def finished(self, row: dict[str, Any]) -> None:
        """Of a scan."""
        self.done += 1
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        print(f"{self.done}/{self.total} {row['name']}: {outcome(row)}, {left:.0f} s left", file=sys.stderr, flush=True)


class Bars(Lines):
    """On a terminal."""

    def __init__(self, total: int, progress: Progress) -> None:
        super().__init__(total)
        self.progress, self.workers = progress, dict[str, "TaskID"]()
        self.all = progress.add_task("all scans", total=total)

    def heard(self, event: dict[str, Any]) -> None:
        """The worker's own bar."""
        worker = event["worker"]
        if worker not in self.workers:
            self.workers[worker] = self.progress.add_task(f"worker {worker}")
        told = {"description": f"worker {worker}: {event['name']}", "completed": event["step"], "total": event["of"]}
        self.progress.update(self.workers[worker], **told)

    def finished(self, row: dict[str, Any]) -> None:
        """One more; what failed stays on the screen."""
        self.progress.advance(self.all)
        if "kind" in row:
            self.progress.console.print(f"{row['name']}: {outcome(row)}", markup=False, highlight=False)


@contextmanager
def bars(total: int) -> Iterator[Lines]:
    """Bars with the time that is left on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bars(total, progress)


def outcome(row: dict[str, Any]) -> str:
    """In a few words."""
    if "kind" in row:
        return f"{row['kind']}: {row['reason']}"
    metrics = row["metrics"][0] if row["metrics"] else {}
    return f"{metrics['psnr']:.2f} dB" if metrics else "done"
