"""A public set, or parts of it: chosen by the card, fetched, held to its checksums, unpacked, listed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from invdiff.config import suggest
from invdiff.errors import ConfigError, DatasetError
from invdiff.files import write_atomic
from invdiff_datasets.base import OWN_SPLITS, Card, File
from invdiff_datasets.fetch import Got, Held, compare, fetch, room
from invdiff_datasets.listed import check_listed
from invdiff_datasets.place import Place, Row
from invdiff_datasets.splits import split_of
from invdiff_datasets.unpack import is_archive, relative, unpack
from invdiff_datasets.web import Patience

Say = Callable[[str], None]
Moves = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is wanted of a set, and what the user brings.

    Attributes:
        subsets: parts of the set; all by default.
        limit: the first so many subjects by name; all by default.
        links: the user's own addresses of files; they are neither kept nor shown.
        archives: files of the set that are here already.
        checksums: SHA-256 by file name, that the user has from the source.
    """

    subsets: Sequence[str] = ()
    limit: int | None = None
    links: Sequence[str] = ()
    archives: Sequence[Path] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A file of the card, and where it comes from: an address or a file that is here."""

    file: File
    url: str | None = None
    here: Path | None = None


def resolved(card: Card, patience: Patience) -> Card:
    """The card with its files; where it has a loader the source is asked. Raises DatasetError."""
    if card.loader is None:
        return card
    found: Card = import_module(f"invdiff_datasets.{card.loader}").resolve(card, patience)
    return found


def jobs(card: Card, choice: Choice) -> list[Job]:
    """What is to be got, before anything is.

    Raises:
        ConfigError: an unknown subset, a link or a file that is none of the set's, nothing at all; a set with links of
            one's own without them.
    """
    if choice.limit is not None and choice.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {choice.limit}")
    given = [Job(_file(card, _name(url)), url=url) for url in choice.links]
    given += [Job(_file(card, path.name), here=path) for path in choice.archives]
    brought = {job.file.path: job for job in given}
    wanted = [*card.files, *(job.file for job in brought.values() if job.file not in card.files)]
    wanted = [f for f in wanted if of_subsets(f.subset, choice.subsets)]
    unknown = [s for s in choice.subsets if not any(f.subset and of_subsets(f.subset, [s]) for f in wanted)]
    if unknown:
        raise ConfigError(f"{card.name} has no subset {unknown[0]!r}{suggest(unknown[0], card.subsets)}")
    if brought:
        wanted = [f for f in wanted if f.path in brought]
    found = [brought.get(f.path) or Job(f, url=f.url) for f in _first(card, wanted, choice.limit)]
    if any(job.url is None and job.here is None for job in found):
        raise ConfigError(f"{card.name} has to be applied for: {card.registration}")
    if not found:
        raise ConfigError(f"nothing of {card.name} is both given and wanted; choose other subsets, links or files")
    return found


def obtain(
    card: Card,
    wanted: Sequence[Job],
    place: Place,
    choice: Choice,
    *,
    patience: Patience | None = None,
    say: Say = lambda text: None,
    moves: Moves = lambda name, done, total: None,
) -> list[Row]:
    """Get the files of a set; what is here already, and is what it was, is left.

    Args:
        card: of the set, with its files.
        wanted: what `jobs` gave.
        place: where it goes.
        choice: the same as for `jobs`.
        patience: with servers and lines in trouble.
        say: told what is done, in words.
        moves: called with the name of a file, its bytes so far and their total.

    Raises:
        DatasetError: as `fetch` and `unpack`; another fetch of the set is running; too little room on the disk.
        FileError: the folder cannot be written.
    """
    place.make()
    with place.locked():
        place.describe(card)
        place.folder.mkdir(exist_ok=True)
        left = [job for job in wanted if not _is_here(job.file, place, choice.limit, say)]
        room(place.root, _need(left), card.name)
        for job in left:
            _one(card, job, place, choice, patience or Patience(), say, moves)
        sources = {job.file.path for job in wanted}
        return [row for row in place.rows() if row.source in sources]


def of_subsets(subset: str | None, wanted: Sequence[str]) -> bool:
    """Whether a file is wanted; `anat/T1w` is of anat and of T1w, what belongs to no subset comes with each."""
    return not wanted or not subset or any(s in (subset, *subset.split("/")) for s in wanted)


def subject_of(card: Card, path: str) -> str:
    """Whose file it is, by its name; empty where that does not tell."""
    found = re.search(card.subject, path) if card.subject else None
    return found.group() if found else ""


def _one(card: Card, job: Job, place: Place, choice: Choice, patience: Patience, say: Say, moves: Moves) -> None:
    file, target = job.file, place.folder / relative(job.file.path, card.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    held = _held(card, file, place, choice.checksums)
    if job.here:
        got = _brought(job.here, held)
    else:
        say(f"fetching {file.path}")
        progress = partial(moves, file.path)
        got = fetch(job.url or "", target, held=held, patience=patience, progress=progress)
    if not held and not file.listed:
        say(f"{file.path}: the source publishes no checksum; {got.sha256[:12]}... is kept, and held to from now on")
    archive = job.here or target
    limit = choice.limit if file.into and not subject_of(card, file.path) else None
    if file.into:
        say(f"unpacking {archive.name}")
        paths = unpack(
            archive,
            _made(place.folder / relative(file.into, card.name)),
            most=file.unpacked,
            choose=partial(_choose, card, limit) if limit else None,
            check=partial(check_listed, name=file.listed, archive=archive.name) if file.listed else lambda folder: None,
        )
    else:
        if job.here:
            write_atomic(target, partial(_copy, job.here))
        paths = [target]
    place.add(file.path, [_row(card, file, path, place) for path in paths])
    place.hold(file.path, got, limit, stable=not file.listed)
    if file.into and not job.here and limit is None:
        target.unlink()  # its content is here; of a part the rest may be wanted later


def _held(card: Card, file: File, place: Place, given: Mapping[str, str]) -> Held | None:
    """The user's checksum, or the card's, or that of the first fetch."""
    name = PurePosixPath(file.path).name
    if name in given:
        return Held(f"sha256:{given[name]}", "the file given with --checksums")
    if file.checksum:
        return Held(file.checksum, "the card", file.bytes)
    return place.held(file.path)


def _brought(path: Path, held: Held | None) -> Got:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    got, wrong = compare(path, held)
    if wrong:
        raise DatasetError(f"{path}: {wrong}; it is damaged or another file, get it again")
    return got


def _is_here(file: File, place: Place, limit: int | None, say: Say) -> bool:
    """Whether it need not be fetched; single files are compared with their checksum, too."""
    if not place.has(file.path, limit):
        return False
    if not file.into:
        path = place.folder / file.path
        known = Held(file.checksum, "the card") if file.checksum else place.held(file.path)
        _, wrong = compare(path, known)
        if wrong:
            say(f"{file.path} has changed here ({wrong}) and is fetched again")
            return False
    say(f"{file.path} is here already")
    return True


def _need(wanted: Sequence[Job]) -> int:
    """Bytes that the content will take, plus the largest archive, which is removed once it is unpacked."""
    content, archives = 0, [0]
    for job in wanted:
        size = job.file.bytes or 0
        if job.file.into:
            archives.append(0 if job.here else size)
            size = job.file.unpacked or (size if job.file.path.endswith(".tar") else 2 * size)
        content += size
    return content + max(archives)


def _first(card: Card, files: Sequence[File], limit: int | None) -> list[File]:
    """Files of the first so many subjects, and those of none."""
    subjects = sorted({subject_of(card, f.path) for f in files} - {""})[:limit]
    return [f for f in files if subject_of(card, f.path) in ("", *subjects)]


def _choose(card: Card, limit: int, names: list[str]) -> set[str]:
    subjects = sorted({subject_of(card, name) for name in names} - {""})[:limit]
    return {name for name in names if subject_of(card, name) in ("", *subjects)}


def _file(card: Card, name: str) -> File:
    """The file of the card of that name, or an archive that the card does not know."""
    for file in card.files:
        if PurePosixPath(file.path).name == name:
            return file
    if not is_archive(name):
        known = [PurePosixPath(f.path).name for f in card.files]
        raise ConfigError(f"{name!r} is no file of {card.name}, and no archive{suggest(name, known)}")
    return File(name, into=name.partition(".")[0])


def _name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _row(card: Card, file: File, path: Path, place: Place) -> Row:
    below = path.relative_to(place.root).as_posix()
    subject = subject_of(card, path.relative_to(place.folder).as_posix())
    split = file.split or (split_of(subject) if card.split == OWN_SPLITS and subject else "")
    return Row(below, path.stat().st_size, file.path, file.subset or "", subject, split)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
