"""What is wanted of a set, and where each file of it comes from; settled before anything is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from invdiff.config import suggest
from invdiff.errors import ConfigError
from invdiff_datasets.base import Card, File
from invdiff_datasets.unpack import is_archive


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is wanted of a set, and what the user brings.

    Attributes:
        subsets: parts of the set; all by default.
        limit: the first so many subjects by name; all by default.
        links: the user's own addresses of files; they are neither kept nor shown.
        archives: files of the set that are here already.
        checksums: SHA-256 by file name, that the user has from the source.
        force: replace what was changed or added where the set lies.
    """

    subsets: Sequence[str] = ()
    limit: int | None = None
    links: Sequence[str] = ()
    archives: Sequence[Path] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    force: bool = False


@dataclass(frozen=True)
class Job:
    """A file of the card, and where it comes from: an address or a file that is here."""

    file: File
    url: str | None = None
    here: Path | None = None


def jobs(card: Card, choice: Choice) -> list[Job]:
    """What is to be got, before anything is.

    Raises:
        ConfigError: an unknown subset, a link or a file that is none of the set's, nothing at all; a set with links of
            one's own without them.
    """
    if choice.limit is not None and choice.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {choice.limit}")
    brought = _linked(card, choice.links) | {(f := _file(card, p.name)).path: Job(f, here=p) for p in choice.archives}
    wanted = [*card.files, *(job.file for job in brought.values() if job.file not in card.files)]
    wanted = [f for f in wanted if of_subsets(f.subset, choice.subsets)]
    unknown = [s for s in choice.subsets if not any(f.subset and of_subsets(f.subset, [s]) for f in wanted)]
    if unknown:
        raise ConfigError(f"{card.name} has no subset {unknown[0]!r}{suggest(unknown[0], card.subsets)}")
    if brought:
        wanted = [f for f in wanted if f.path in brought]
    found = [brought.get(f.path) or Job(f, url=f.url) for f in _of_first(card, wanted, choice.limit)]
    if any(job.url is None and job.here is None for job in found):
        raise ConfigError(f"{card.name} has to be applied for: {card.registration}")
    if not found:
        raise ConfigError(f"nothing of {card.name} is both given and wanted; choose other subsets, links or files")
    return found


def of_subsets(subset: str | None, wanted: Sequence[str]) -> bool:
    """Whether a file is wanted; `anat/T1w` is of anat and of T1w, what belongs to no subset comes with each."""
    return not wanted or not subset or any(s in (subset, *subset.split("/")) for s in wanted)


def subject_of(card: Card, path: str) -> str:
    """Whose file it is, by its name; empty where that does not tell."""
    found = re.search(card.subject, path) if card.subject else None
    return found.group() if found else ""


def first_subjects(card: Card, names: Iterable[str], limit: int | None) -> set[str]:
    """Those of the names that are of the first so many subjects, or of none."""
    of = {name: subject_of(card, name) for name in names}
    subjects = sorted(set(of.values()) - {""})[:limit]
    return {name for name, subject in of.items() if subject in ("", *subjects)}


def _of_first(card: Card, files: Sequence[File], limit: int | None) -> list[File]:
    names = first_subjects(card, (f.path for f in files), limit)
    return [f for f in files if f.path in names]


def _linked(card: Card, links: Sequence[str]) -> dict[str, Job]:
    """Files that the user has links to; a mail has links to other sets, too, which are left out."""
    files = {_name(f.path): f for f in card.files}
    found = {f.path: Job(f, url=url) for url in links if (f := files.get(_name(url)))}
    if links and not found and not any(f.url for f in card.files):
        raise ConfigError(f"no link is to a file of {card.name}{suggest(_name(links[0]), list(files))}")
    return found


def _file(card: Card, name: str) -> File:
    """The file of the card of that name, or an archive that the card does not know."""
    files = {_name(f.path): f for f in card.files}
    if name not in files and not is_archive(name):
        raise ConfigError(f"{name!r} is no file of {card.name}, and no archive{suggest(name, list(files))}")
    return files.get(name) or File(name, into=name.partition(".")[0])


def _name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name
