"""Writing files: never over an existing one unasked, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from invdiff.errors import ConfigError, FileError


def refuse_existing(paths: Iterable[Path], *, force: bool) -> None:
    """Raise ConfigError when one of the outputs exists and `force` is off; called before any work starts."""
    existing = [str(p) for p in paths if p.exists()]
    if existing and not force:
        raise ConfigError(f"{', '.join(existing)} exists; pass --force to replace it")


def check_outputs(paths: Iterable[Path], *, force: bool) -> None:
    """`refuse_existing`, and find out before the work what would keep the outputs from being written after it.

    Raises:
        ConfigError: one of the outputs exists and `force` is off.
        FileError: their folder is missing, is a file or is read-only; an output is a folder.
    """
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            raise FileError(f"cannot write {path}: it is a folder; name a file")
    refuse_existing(paths, force=force)
    for path in paths[:1]:
        _temporary(path).unlink()


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it into place.

    The temporary name ends like `path`, because writers choose their format by the ending. A failed write leaves
    neither a partial file nor a damaged old one.

    Raises:
        FileError: folder missing or read-only, no space left, or any other failure of the file system.
    """
    temporary = _temporary(path)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as e:
        raise FileError(f"cannot write {path}: {_reason(e)}") from e
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_atomic` of a text, UTF-8."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomic(path, write)


@contextmanager
def all_or_none(folder: Path, *, inside: Path | None = None) -> Iterator[Path]:
    """A temporary folder inside `folder`; what is written there moves to `folder` once all of it is complete.

    Args:
        folder: where the files belong.
        inside: another folder of the same file system for the temporary one, which a killed process leaves behind.

    Raises:
        FileError: as `write_atomic`; then `folder` is as it was.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=inside or folder))
    except OSError as e:
        raise FileError(f"cannot write into {folder}: {_reason(e)}") from e
    try:
        yield temporary
        for path in sorted(temporary.iterdir()):
            path.replace(folder / path.name)
    except FileError as e:
        raise FileError(str(e).replace(str(temporary), str(folder))) from e
    except OSError as e:
        raise FileError(f"cannot write into {folder}: {_reason(e)}") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock file `path` alone; it falls with the process, however that ends.

    Args:
        path: made if it is not there, with its folder.
        wait: for another holder to let go; else yield False where there is one.

    Raises:
        FileError: folder or file cannot be written.
    """
    from filelock import FileLock, Timeout  # not needed by most commands

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    except OSError as e:
        raise FileError(f"cannot write {path}: {_reason(e)}") from e
    try:
        yield True
    finally:
        lock.release()


def is_prior_file(name: str) -> bool:
    """Whether a prior is named by its file, rather than as one that ships."""
    return "/" in name or name.endswith(".safetensors")


def sha256(path: Path) -> str:
    """Checksum of a file, as 64 hexadecimal digits."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix=f"-{path.name}", dir=path.parent)
        os.close(handle)
    except OSError as e:
        raise FileError(f"cannot write {path}: {_reason(e)}") from e
    return Path(name)


def _reason(e: OSError) -> str:
    if e.errno == errno.ENOSPC:
        return "no space left on the device; free some or choose another folder"
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "permission denied or read-only; choose another folder"
    if e.errno == errno.ENOENT:
        return f"the folder {e.filename and Path(e.filename).parent} does not exist; make it first"
    return e.strerror or str(e)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
