"""Progress: a bar for each worker and one for all on a terminal, a line per scan elsewhere."""

import io
import os
import pty
import subprocess
import sys

from rich.console import Console
from rich.progress import Progress

from invdiff_cli.batch.bars import Bars, bars

DONE = {"name": "s0", "metrics": [{"psnr": 31.234}]}
BROKEN = {"name": "s1", "kind": "FileError", "reason": "it is truncated"}


def test_lines(capsys):
    with bars(2) as shown:
        shown.heard({"worker": "0", "name": "s0", "step": 3, "of": 12})
        shown.finished(DONE)
        shown.finished(BROKEN)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("1/2 s0: 31.23 dB, ")
    assert first.endswith(" s left")
    assert second == "2/2 s1: FileError: it is truncated, 0 s left"


def test_bars():
    screen = io.StringIO()
    with Progress(console=Console(file=screen, force_terminal=True, width=100), auto_refresh=False) as progress:
        shown = Bars(2, progress)
        shown.heard({"worker": "0", "name": "s0", "step": 3, "of": 12})
        shown.heard({"worker": "1", "name": "s1", "step": 1, "of": 12})
        shown.heard({"worker": "0", "name": "s0", "step": 6, "of": 12})
        shown.finished(DONE)
        shown.finished(BROKEN)
        tasks = {t.description: (t.completed, t.total) for t in progress.tasks}
    assert tasks == {"all scans": (2, 2), "worker 0: s0": (6, 12), "worker 1: s1": (1, 12)}
    assert "s1: FileError: it is truncated" in screen.getvalue()


def test_a_terminal_has_bars():
    """The real thing, behind a terminal."""
    ours, theirs = pty.openpty()
    code = (
        "from invdiff_cli.batch.bars import bars\n"
        "with bars(1) as b:\n"
        " b.heard({'worker': '0', 'name': 's0', 'step': 3, 'of': 12}); b.progress.refresh()\n"
    )
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=env, check=True, timeout=60)
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    assert "worker 0: s0" in said
    assert "all scans" in said
    assert "3/12" in said
