"""Archives: unpacked whole or not at all, into their folder and nowhere else, and no more than was announced."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO
from zipfile import BadZipFile, ZipFile, ZipInfo

from invdiff.errors import DatasetError, FileError

Choose = Callable[[list[str]], set[str]]
EXPANSION = 20  # most that medical images shrink, with a margin
MEMBERS = 2_000_000
DAMAGED = (tarfile.TarError, BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, NotImplementedError)


def unpack(
    archive: Path,
    into: Path,
    *,
    most: int | None = None,
    choose: Choose | None = None,
    check: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Unpack a tar (plain, gz, bz2, xz) or a zip into a folder, which it replaces.

    If all content lies in one folder, that one is left out.

    Args:
        archive: the file.
        into: the folder; its parent must exist.
        most: bytes of the content; more is refused. By default 20 times the archive.
        choose: picks from the names of all files those to be unpacked; by default all.
        check: is shown the content before it takes its place, and raises if something is wrong with it.

    Returns:
        The files, sorted.

    Raises:
        DatasetError: no archive, a damaged one, or one whose content would lie elsewhere, is a link or a device, or is
            larger than it may be.
        FileError: it cannot be written. In both cases nothing was unpacked.
    """
    limit = most if most is not None else EXPANSION * archive.stat().st_size + 2**20
    draft = into.with_name(f".partial-{into.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        wanted = choose(_names(archive)) if choose else None
        tops = _write(archive, draft, limit, wanted)
        root = draft / tops.pop() if len(tops) == 1 else draft
        root = root if root.is_dir() else draft
        check(root)
        shutil.rmtree(into, ignore_errors=True)
        root.replace(into)
    except DatasetError:
        raise
    except DAMAGED as e:
        if isinstance(e, OSError) and e.errno:
            raise FileError(f"{archive.name} cannot be unpacked into {into}: {e.strerror}") from e
        reason = str(e).partition("\n")[0] or type(e).__name__
        raise DatasetError(f"{archive.name} cannot be unpacked ({reason}); it may be damaged, fetch it again") from e
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return sorted(p for p in into.rglob("*") if p.is_file())


def is_archive(name: str) -> bool:
    """Whether a file is unpacked, by its ending."""
    return name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".zip"))


def relative(name: str, what: str) -> PurePosixPath:
    """A path below a folder, from a name that a stranger gave; raises DatasetError for any other."""
    path = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or PureWindowsPath(name).drive
    if odd or path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"{what} has {name!r}, which would lie outside its folder; nothing was unpacked")
    return path


def _names(archive: Path) -> list[str]:
    return [name for name, _ in _members(archive)]


def _write(archive: Path, folder: Path, limit: int, wanted: set[str] | None) -> set[str]:
    """Write what is wanted; returns the names at the top of the archive."""
    done, tops = 0, set()
    for name, opened in _members(archive):
        where = relative(name, archive.name)
        tops.add(str(where).partition("/")[0])
        if wanted is not None and name not in wanted:
            continue
        target = folder / where
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened() as source, target.open("xb") as f:
            while chunk := source.read(2**20):
                done += len(chunk)
                if done > limit:
                    raise DatasetError(
                        f"{archive.name} holds more than {limit / 1e6:.1f} MB, which was not announced; nothing was "
                        "unpacked"
                    )
                f.write(chunk)
    return tops


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Files of an archive, in its order; raises DatasetError for what is neither file nor folder."""
    if archive.name.lower().endswith(".zip"):
        with ZipFile(archive) as z:
            for k, info in enumerate(z.infolist()):
                _admit(
                    archive, info.filename, k, stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                )
                if not info.is_dir():
                    yield info.filename, _opener(z, info)
        return
    with tarfile.open(archive, "r:*") as t:
        for k, member in enumerate(t):
            _admit(archive, member.name, k, member.isreg() or member.isdir())
            if member.isreg():
                yield member.name, _extractor(t, member)


def _admit(archive: Path, name: str, count: int, plain: bool) -> None:
    relative(name, archive.name)
    if not plain:
        raise DatasetError(f"{archive.name} has {name!r}, a link or a device; nothing was unpacked")
    if count >= MEMBERS:
        raise DatasetError(f"{archive.name} has more than {MEMBERS} members; nothing was unpacked")


def _opener(z: ZipFile, info: ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: z.open(info)


def _extractor(t: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        found = t.extractfile(member)
        if found is None:
            raise tarfile.ReadError(f"{member.name} has no content")
        return found

    return opened
