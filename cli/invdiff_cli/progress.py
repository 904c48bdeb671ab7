"""Progress on stderr: a bar with an ETA on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def progress(title: str, total: int = 0, *, every: float = 10.0) -> Iterator[Steps]:
    """Yield a callback that counts one step each time it is called.

    Args:
        title: what is being done.
        total: number of steps, where it is known; else `expect` says it later.
        every: seconds between two plain lines.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, TimeElapsedColumn

        with Progress(
            *Progress.get_default_columns(), TimeElapsedColumn(), console=Console(stderr=True), transient=True
        ) as bar:
            yield _Bar(bar, bar.add_task(title, total=total or None))
        return
    yield _Lines(title, total, every)


class Steps(Protocol):
    """Counts steps."""

    def __call__(self, _: object) -> None:
        """One more."""

    def expect(self, total: int) -> None:
        """How many there will be."""


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.bar, self.task = bar, task

    def __call__(self, _: object) -> None:
        self.bar.advance(self.task)

    def expect(self, total: int) -> None:
        self.bar.update(self.task, total=total)


class _Lines:
    def __init__(self, title: str, total: int, every: float) -> None:
        self.title, self.total, self.every = title, total, every
        self.done, self.began, self.next = 0, 0.0, 0.0

    def expect(self, total: int) -> None:
        self.total = total

    def __call__(self, _: object) -> None:
        now = time.monotonic()
        if self.done == 0:  # the clock starts with the first step: whatever came before it is no measure of the rest
            self.began, self.next = now, now + self.every
        self.done += 1
        if now >= self.next and 1 < self.done < self.total:
            self.next = now + self.every
            left = (now - self.began) / (self.done - 1) * (self.total - self.done)
            print(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left", file=sys.stderr, flush=True)


@contextmanager
def transfer(*, every: float = 10.0) -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a callback of a file's name, its bytes so far and their total: a bar a file, or a line now and then.

    Args:
        every: seconds between two plain lines.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, TaskID] = {}

            def move(name: str, done: int, total: int | None) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done, total=total, visible=done != total)

            yield move
        return
    last = time.monotonic()

    def line(name: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            of = f" of {total / 1e6:.0f}" if total else ""
            print(f"{name}: {done / 1e6:.0f}{of} MB", file=sys.stderr, flush=True)

    yield line
