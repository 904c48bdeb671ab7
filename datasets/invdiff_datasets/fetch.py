"""One file from the web: resumed where it broke, whole and as its checksum says, or not at all.

While it is fetched it is called NAME.part, and NAME.part.json says of which version of the source it is a part. Both
survive a kill; the next call goes on from there if the source still has that version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from invdiff.errors import DatasetError
from invdiff_datasets.web import Passing, Patience, get, shown

Progress = Callable[[int, int | None], None]
CHUNK = 2**18
SLOWEST, WINDOW = 1024, 60.0  # bytes per second, over so many seconds; below that the connection counts as broken
RESERVE = 64 * 2**20  # bytes of the disk that are left alone


@dataclass(frozen=True)
class Held:
    """What a file must be: `sha256:...` or `md5:...`, by whom that is said, and its size where that is known."""

    checksum: str
    by: str
    bytes: int | None = None


@dataclass(frozen=True)
class Got:
    """A file that was fetched: its size and its SHA-256."""

    bytes: int
    sha256: str


def fetch(
    url: str,
    path: Path,
    *,
    held: Held | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Got:
    """Fetch one file. Whoever calls sees to it that nobody else fetches it to the same place meanwhile.

    Args:
        url: https; http on this computer.
        path: where it goes; the folder must exist.
        held: what it must be; without it, whatever comes whole.
        patience: with a server or a line in trouble. An attempt that brings new bytes is not in vain.
        progress: called with the bytes so far and the total, where that is known.
        clock: seconds.

    Raises:
        DatasetError: not there, refused, too often interrupted, another file than it must be, no space left. What was
            got is kept for the next call, unless it is damaged.
    """
    part, patience = _Part(path), patience or Patience()
    most, failed = part.size, 0
    while True:
        try:
            _attempt(url, part, held, progress or (lambda done, total: None), clock)
            break
        except Passing as fault:
            failed = 0 if part.size > most else failed
            most, failed = max(most, part.size), failed + 1
            try:
                patience.pause(failed, fault)
            except DatasetError as e:
                kept = f"; {part.size / 1e6:.1f} MB are kept, the same command goes on from there" if part.size else ""
                raise DatasetError(f"{e}{kept}") from None
    got, wrong = compare(part.path, held)
    if wrong:
        part.remove()
        raise DatasetError(
            f"{path.name}: {wrong}; it was damaged on the way or is another file now, and was removed: fetch it again"
        )
    part.finish()
    return got


def compare(path: Path, held: Held | None) -> tuple[Got, str | None]:
    """Size and SHA-256 of a file, and in words how it differs from what it must be, None if it does not."""
    kind, _, want = held.checksum.partition(":") if held else ("sha256", "", "")
    sha256, found = digests(path, kind)
    wrong = held and found != want.lower() and f"its {kind} is {found[:12]}..., {held.by} says {want[:12]}..."
    return Got(path.stat().st_size, sha256), wrong or None


def digests(path: Path, kind: str) -> tuple[str, str]:
    """SHA-256 of a file, and its checksum of another kind, in one go."""
    sha256, other = hashlib.sha256(), hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as f:
        while chunk := f.read(2**20):
            sha256.update(chunk)
            other.update(chunk)
    return sha256.hexdigest(), other.hexdigest()


def room(folder: Path, need: int, what: str) -> None:
    """Raise DatasetError when a disk has not got `need` bytes left."""
    free = shutil.disk_usage(folder).free
    if need + RESERVE > free:
        raise DatasetError(
            f"{what} needs {need / 1e9:.2f} GB in {folder}, {free / 1e9:.2f} GB are free; make room or choose another "
            "folder with --to"
        )


class _Part:
    """The file under way, and the version of the source that it is a part of."""

    def __init__(self, path: Path) -> None:
        self.final, self.path = path, path.with_name(f"{path.name}.part")
        self.record = path.with_name(f"{path.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str | None:
        """What names the version: an entity tag, or the date of the last change."""
        try:
            found = json.loads(self.record.read_text())["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def begin(self, validator: str | None) -> None:
        """Forget what there is; a part of a version without a name is of no use later."""
        try:
            self.path.write_bytes(b"")
            self.record.write_text(json.dumps({"validator": validator}) + "\n")
        except OSError as e:
            raise DatasetError(f"cannot write {self.path}: {e.strerror}; choose another folder with --to") from e

    def finish(self) -> None:
        self.path.replace(self.final)
        self.record.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)


def _attempt(url: str, part: _Part, held: Held | None, progress: Progress, clock: Callable[[], float]) -> None:
    known = part.validator()
    have = part.size if known else 0
    asked = {"Range": f"bytes={have}-", "If-Range": known} if have and known else {}
    with get(url, asked) as answer:
        start, total = _extent(answer, have)
        now = _validator(answer)
        if start is None or (start and now not in (None, known)):
            part.begin(None)  # another version, or more than there is: all over again
            raise Passing(f"{shown(url)}: the source has another version than the part that was kept")
        if held and held.bytes and total and total != held.bytes:
            raise DatasetError(
                f"{shown(url)}: the source has {total} bytes now, {held.by} says {held.bytes}: it is another file"
            )
        if total is None and not answer.chunked and held is None:
            raise DatasetError(f"{shown(url)}: the server does not say how long the file is, and nobody its checksum")
        if total is not None:
            room(part.path.parent, total - start, part.final.name)
        if start == 0:
            part.begin(now)
        if start == total:
            return
        _copy(answer, part, total, progress, clock, shown(url))
    if total is not None and part.size != total:
        raise Passing(f"{shown(url)}: the connection broke after {part.size} of {total} bytes")


def _extent(answer: HTTPResponse, have: int) -> tuple[int | None, int | None]:
    """First byte of an answer, None where there is no such byte, and bytes of the whole file, None if unknown."""
    span = answer.headers.get("Content-Range", "")
    total = int(span.rpartition("/")[2]) if span.rpartition("/")[2].isdigit() else None
    if answer.status == 416:
        return (have, total) if total == have else (None, total)
    if answer.status == 206:
        first = span.removeprefix("bytes ").partition("-")[0]
        return (have if first == str(have) else None), total
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(answer: HTTPResponse) -> str | None:
    """A strong entity tag, or a date; a weak tag does not promise the same bytes."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _copy(
    answer: HTTPResponse,
    part: _Part,
    total: int | None,
    progress: Progress,
    clock: Callable[[], float],
    url: str,
) -> None:
    done = part.size
    since, then = clock(), done
    try:
        with part.path.open("ab") as f:
            while chunk := _chunk(answer, url):
                f.write(chunk)
                done += len(chunk)
                progress(done, total)
                if clock() - since > WINDOW:
                    if done - then < SLOWEST * WINDOW:
                        raise Passing(f"{url}: fewer than {SLOWEST} bytes a second for {WINDOW:.0f} s")
                    since, then = clock(), done
    except OSError as e:
        raise DatasetError(f"cannot write {part.path}: {e.strerror}; what was got is kept") from e


def _chunk(answer: HTTPResponse, url: str) -> bytes:
    try:
        return answer.read1(CHUNK)  # what is there: read() would wait for all of it, however slowly it drips
    except (OSError, HTTPException) as e:
        raise Passing(f"{url}: the connection broke ({getattr(e, 'strerror', None) or type(e).__name__})") from None
