"""Versions of invdiff and of what it needs, and the extras."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement

from invdiff import __version__
from invdiff_cli.doctor.finding import OK, PROBLEM, WARNING, Finding

GROUP = "software"
PYTHON = (3, 11)


def findings() -> Iterator[Finding]:
    """A line each for Python, invdiff, what is needed, and each extra."""
    python = platform.python_version()
    old = tuple(map(int, platform.python_version_tuple()[:2])) < PYTHON
    todo = "install Python 3.11 or newer" if old else ""
    yield Finding(GROUP, "python", f"{python} on {platform.platform(terse=True)}", PROBLEM if old else OK, todo)
    yield Finding(GROUP, "invdiff", __version__)
    try:
        wanted = [Requirement(line) for line in requires("invdiff") or []]
    except PackageNotFoundError:
        yield Finding(
            GROUP, "packages", "invdiff runs from its sources", WARNING, "pip install -e . to have them checked"
        )
        return
    yield from _needed(wanted, tested(Path(str(files("invdiff"))).parent / "constraints.txt"))
    yield from _extras(wanted)


def tested(path: Path) -> dict[str, str]:
    """Versions that the tests ran with, of a checkout; a wheel does not bring them."""
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_plain(name): at.strip() for name, at in pairs}


def _needed(wanted: list[Requirement], known: dict[str, str]) -> Iterator[Finding]:
    """Large packages have a line of their own, the others one if all is well."""
    rest = 0
    for need in (r for r in wanted if r.marker is None):
        found = _installed(need.name)
        if found is None or not need.specifier.contains(found, prereleases=True):
            told = f"{found or 'missing'}, needs {need.specifier or 'any version'}"
            yield Finding(GROUP, need.name, told, PROBLEM, f"pip install '{need}'")
        elif need.name in ("torch", "numpy", "scipy", "nibabel"):
            at = known.get(_plain(need.name))
            public = found.partition("+")[0]
            told = f"{found}, tested with {at}" if at and at != public else f"{found}, as tested" if at else found
            yield Finding(GROUP, need.name, told)
        else:
            rest += 1
    yield Finding(GROUP, "other packages", f"{rest} are as needed")


def _extras(wanted: list[Requirement]) -> Iterator[Finding]:
    """One that is missing is no fault; one that is there in an unfit version is."""
    extras: dict[str, list[Requirement]] = {}
    for need in wanted:
        extra = re.search(r'extra\s*==\s*"([^"]+)"', str(need.marker))
        if extra and extra[1] != "dev":
            extras.setdefault(extra[1], []).append(need)
    for name, needs in extras.items():
        found = {need.name: _installed(need.name) for need in needs}
        install = f"pip install 'invdiff[{name}]'"
        missing = [n for n, at in found.items() if at is None]
        unfit = [
            n for need in needs if (at := found[n := need.name]) and not need.specifier.contains(at, prereleases=True)
        ]
        if unfit:
            told = ", ".join(f"{n} {found[n]}" for n in unfit)
            yield Finding(GROUP, f"extra {name}", f"{told} do not fit", WARNING, install)
        elif missing:
            yield Finding(
                GROUP, f"extra {name}", f"not installed ({', '.join(missing)})", todo=f"if you need it: {install}"
            )
        else:
            yield Finding(GROUP, f"extra {name}", ", ".join(f"{n} {at}" for n, at in found.items()))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
