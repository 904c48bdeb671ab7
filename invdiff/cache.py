"""Arrays that are slow to make, kept on disk between runs; never needed, always rebuilt when damaged.

They lie in the user's cache folder. The environment variable INVDIFF_CACHE_DIR moves it; `off` keeps nothing.
"""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import platformdirs
from numpy.typing import NDArray

from invdiff.errors import FileError
from invdiff.files import write_atomic

Arrays = dict[str, NDArray[np.generic]]
MAX_BYTES = 8 * 2**30
log = logging.getLogger(__name__)


def folder() -> Path | None:
    """Where arrays are kept; None when they are not."""
    named = os.environ.get("INVDIFF_CACHE_DIR")
    if named is None:
        return Path(platformdirs.user_cache_dir("invdiff"))
    return None if named == "off" else Path(named)


def load(key: str) -> Arrays | None:
    """Arrays kept under `key`; None when there are none, or the file is damaged."""
    where = folder()
    path = where / f"{key}.npz" if where else None
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        path.touch()  # the oldest files go first
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as e:
        log.warning("%s is damaged (%s) and will be made again", path, e)
        return None
    return arrays


def store(key: str, arrays: Arrays) -> None:
    """Keep arrays under `key`, as far as the disk allows; the least recently used make room above `MAX_BYTES`."""
    where = folder()
    if where is None:
        return
    try:
        where.mkdir(parents=True, exist_ok=True)
        write_atomic(where / f"{key}.npz", lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]
        _prune(where)
    except (OSError, FileError) as e:
        log.warning("nothing is kept in %s: %s", where, e)


def _prune(where: Path) -> None:
    """Delete the least recently used files until the others fit, the newest always."""
    files = sorted(where.glob("*.npz"), key=lambda p: p.stat().st_mtime, reverse=True)
    total = np.cumsum([p.stat().st_size for p in files])
    for path, size in list(zip(files, total, strict=True))[1:]:
        if size > MAX_BYTES:
            path.unlink(missing_ok=True)
