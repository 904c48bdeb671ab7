"""What is kept on the disk: priors, cache and data, whether it is whole, and whether there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from invdiff import cache, catalogue, library
from invdiff.errors import PriorError
from invdiff.files import sha256
from invdiff_cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from invdiff_datasets.place import data_folder

GROUP = "priors, cache and data"
ROOM = 2e9  # bytes


def findings() -> Iterator[Finding]:
    """Lines on priors that ship, priors that are installed, and each folder."""
    yield shipped()
    yield from installed()
    yield _cache()
    folders = {"installed priors": library.folder(), "cache": cache.folder(), "data": data_folder()}
    for name, folder in folders.items():
        if folder:
            yield room(name, folder)


def shipped() -> Finding:
    """Whether the priors of the package are what was released."""
    known = catalogue.load()["priors"]
    names = library.all_shipped()
    bad = [n for n in names if sha256(library.find(n)) != known.get(n, {}).get("sha256")]
    if bad:
        return Finding(GROUP, "shipped priors", f"{', '.join(bad)} changed since the release", PROBLEM, "install again")
    return Finding(GROUP, "shipped priors", f"{', '.join(names)}: checksums hold")


def installed() -> Iterator[Finding]:
    """One line for each that is damaged, and one for the others."""
    good = []
    for record in sorted(library.folder().glob("*.json")):
        name = record.name.removesuffix(".json")
        try:
            library.find(name)
            good.append(name)
        except PriorError as e:
            yield Finding(GROUP, f"prior {name}", str(e), PROBLEM)  # it says what to do
    yield Finding(GROUP, "installed priors", f"{', '.join(good)}: checksums hold" if good else "none")


def room(name: str, folder: Path) -> Finding:
    """Whether a folder, or the one that it will be made in, can be written and has room."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if not os.access(there, os.W_OK):
        return Finding(GROUP, f"folder of {name}", f"{found}, cannot be written", WARNING, f"chmod u+w {there}")
    if free < ROOM:
        return Finding(GROUP, f"folder of {name}", found, WARNING, "make room on that disk")
    return Finding(GROUP, f"folder of {name}", found, OK)


def _cache() -> Finding:
    folder = cache.folder()
    if folder is None:
        return Finding(GROUP, "cache", "off (INVDIFF_CACHE_DIR)")
    sizes = [p.stat().st_size for p in folder.glob("*.npz")]
    return Finding(
        GROUP, "cache", f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB of {cache.MAX_BYTES / 1e9:.1f} GB at most"
    )
