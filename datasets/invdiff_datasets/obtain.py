"""A public set, or parts of it: fetched, held to its checksums, unpacked, listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath

from invdiff.errors import ConfigError, DatasetError
from invdiff.files import write_atomic
from invdiff_datasets.base import OWN_SPLITS, Card, File
from invdiff_datasets.choosing import Choice, Job, first_subjects, subject_of
from invdiff_datasets.fetch import Got, Held, compare, fetch, room
from invdiff_datasets.ledger import Ledger, Row
from invdiff_datasets.listed import check_listed
from invdiff_datasets.place import Place
from invdiff_datasets.splits import split_of
from invdiff_datasets.unpack import relative, unpack
from invdiff_datasets.web import Patience

Say = Callable[[str], None]
Moves = Callable[[str, int, int | None], None]


def resolved(card: Card, patience: Patience) -> Card:
    """The card with its files; where it has a loader the source is asked. Raises DatasetError."""
    if card.loader is None:
        return card
    found: Card = import_module(f"invdiff_datasets.{card.loader}").resolve(card, patience)
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
        ConfigError: what is there was changed, or was not fetched, and would be replaced.
        DatasetError: as `fetch` and `unpack`; another fetch of the set is running; too little room on the disk.
        FileError: the folder cannot be written.
    """
    place.make()
    with place.locked(), Ledger(place) as ledger:
        place.describe(card)
        place.folder.mkdir(exist_ok=True)
        left = [job for job in wanted if not _is_here(card, job.file, ledger, choice.limit, say)]
        room(place.root, _need(left), card.name)
        for job in left:
            _one(card, job, ledger, choice, patience or Patience(), say, moves)
        sources = {job.file.path for job in wanted}
        return [row for row in ledger.rows if row.source in sources]


def _one(card: Card, job: Job, ledger: Ledger, choice: Choice, patience: Patience, say: Say, moves: Moves) -> None:
    file, target = job.file, _target(card, job.file.path, ledger.place)
    held = _held(file, ledger, choice.checksums)
    if job.here:
        got = _brought(job.here, held)
    else:
        got = _kept(target, held, choice) or _fetched(job, target, held, patience, say, moves)
    if not held and not file.listed:
        say(f"{file.path}: the source publishes no checksum; {got.sha256[:12]}... is kept, and held to from now on")
    if file.into:
        limit = None if subject_of(card, file.path) else choice.limit
        _refuse_strangers(_target(card, file.into, ledger.place), file, ledger, choice)
        paths = _unpacked(card, job, target, ledger.place, limit, say)
        ledger.note(file.path, got, _rows(card, file, paths, ledger.place), limit, stable=not file.listed)
        if limit is None and not job.here:
            target.unlink()  # its content is here; of a part the rest may be wanted later
        return
    if job.here:
        write_atomic(target, partial(_copy, job.here))
    ledger.note(file.path, got, _rows(card, file, [target], ledger.place))


def _unpacked(card: Card, job: Job, target: Path, place: Place, limit: int | None, say: Say) -> list[Path]:
    file, archive = job.file, job.here or target
    if limit is None:
        room(place.root, file.unpacked or archive.stat().st_size, f"the content of {archive.name}")
    say(f"unpacking {archive.name}")
    try:
        return unpack(
            archive,
            _target(card, file.into or "", place),
            most=file.unpacked,
            choose=partial(first_subjects, card, limit=limit) if limit else None,
            check=partial(check_listed, name=file.listed, archive=archive.name) if file.listed else lambda folder: None,
        )
    except DatasetError:
        if not job.here:
            archive.unlink()  # it came whole and is no good: the next call fetches it again
        raise


def _refuse_strangers(folder: Path, file: File, ledger: Ledger, choice: Choice) -> None:
    """Raise ConfigError where an archive would replace what was not fetched."""
    known = {ledger.place.root / row.path for row in ledger.rows if row.source == file.path}
    strange = sorted(p for p in folder.rglob("*") if p.is_file() and p not in known)
    if strange and not choice.force:
        raise ConfigError(
            f"{folder} has files that were not fetched ({strange[0].name}); pass --force to replace the folder"
        )


def _target(card: Card, name: str, place: Place) -> Path:
    """A path in the folder of the set, which is made."""
    path = place.folder / relative(name, card.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _kept(path: Path, held: Held | None, choice: Choice) -> Got | None:
    """A file that is here: an archive that a part was unpacked of, or that was not unpacked yet."""
    if not path.is_file():
        return None
    got, wrong = compare(path, held)
    if wrong and not choice.force:
        raise ConfigError(f"{path} is another file ({wrong}); pass --force to replace it")
    return None if wrong else got


def _fetched(job: Job, target: Path, held: Held | None, patience: Patience, say: Say, moves: Moves) -> Got:
    say(f"fetching {job.file.path}")
    return fetch(job.url or "", target, held=held, patience=patience, progress=partial(moves, job.file.path))


def _held(file: File, ledger: Ledger, given: Mapping[str, str]) -> Held | None:
    """The user's checksum, or the card's, or that of the first fetch."""
    name = PurePosixPath(file.path).name
    if name in given:
        return Held(f"sha256:{given[name]}", "the file given with --checksums")
    if file.checksum:
        return Held(file.checksum, "the card", file.bytes)
    return ledger.held(file.path)


def _brought(path: Path, held: Held | None) -> Got:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    got, wrong = compare(path, held)
    if wrong:
        raise DatasetError(f"{path}: {wrong}; it is damaged or another file, get it again")
    return got


def _is_here(card: Card, file: File, ledger: Ledger, limit: int | None, say: Say) -> bool:
    """Whether it need not be fetched; a single file is so if its checksum holds, noted or not."""
    path, held = ledger.place.folder / relative(file.path, card.name), _held(file, ledger, {})
    here = ledger.has(file.path, limit) if file.into else False
    if not file.into and held and path.is_file():
        got, wrong = compare(path, held)
        here = not wrong
        if here:
            ledger.note(file.path, got, _rows(card, file, [path], ledger.place))
    if here:
        say(f"{file.path} is here already")
    return here


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


def _rows(card: Card, file: File, paths: Sequence[Path], place: Place) -> list[Row]:
    found = []
    for path in paths:
        subject = subject_of(card, path.relative_to(place.folder).as_posix())
        split = file.split or (split_of(subject) if card.split == OWN_SPLITS and subject else "")
        below = path.relative_to(place.root).as_posix()
        found.append(Row(below, path.stat().st_size, file.path, file.subset or "", subject, split))
    return found


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
