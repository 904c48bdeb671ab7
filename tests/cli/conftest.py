import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from invdiff_cli.app import app


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Run]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process; an exception that is not turned into an exit code fails the test."""

    def run(*args: object) -> Run:
        capfd.readouterr()
        with pytest.raises(SystemExit) as e:
            app([str(a) for a in args])
        out, err = capfd.readouterr()
        return Run(int(e.value.code or 0), out, err)

    return run


@pytest.fixture
def program(tmp_path: Path) -> Cli:
    """Run `python -m invdiff_cli` as a user does."""

    def run(*args: object) -> Run:
        done = subprocess.run(
            [sys.executable, "-m", "invdiff_cli", *map(str, args)],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def refused(cli: Cli, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail: its exit code, one line on stderr, silence on stdout, every file as before.

    `kept` is a folder that the command leaves, from which it goes on once what kept it from ending is gone.
    """

    def run(code: int, *args: object, kept: str | None = None) -> str:
        before = tree(tmp_path)
        done = cli(*args)
        assert (done.code, done.out) == (code, ""), done
        assert done.err.count("\n") == 1, done.err
        assert done.err.startswith("invdiff: ")
        after = tree(tmp_path)
        if kept:
            assert kept in after
            after = {name: content for name, content in after.items() if name.split("/")[0] != kept}
        assert after == before
        return done.err.strip()

    return run


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, small_volume: Path) -> Path:
    """A 4x undersampled measurement of the small volume; not to be changed."""
    path = tmp_path_factory.mktemp("measured") / "y.h5"
    with pytest.raises(SystemExit):
        app(["simulate", "mri", str(small_volume), "-o", str(path)])
    return path


@pytest.fixture
def y(measured: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    path = tmp_path / "y.h5"
    path.write_bytes(measured.read_bytes())
    return path
