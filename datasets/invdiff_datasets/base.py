"""Cards: what a stranger must know to find data, and what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from invdiff.config import suggest
from invdiff.errors import ConfigError

OWN_SPLITS = "by subject"


@dataclass(frozen=True)
class File:
    """One file of a set, as its source has it.

    Attributes:
        path: where it goes, relative to the set's folder.
        url: where it is fetched from; None where each user has links of their own.
        bytes: size at the source; None where it is not known beforehand.
        checksum: `sha256:...` or `md5:...`; None where the source publishes none: the checksum of the first fetch is
            then kept, and held to from then on.
        subset: the part of the set that it belongs to.
        split: train, validation or test, where the source says so.
        into: of an archive, the folder that its content goes to.
        unpacked: of an archive, bytes of its content at most; by default 20 times its own.
        listed: of an archive that is packed anew for each request, the file inside that has the checksums.
        inside: of a sample, the file of an installed package that it is.
    """

    path: str
    url: str | None = None
    bytes: int | None = None
    checksum: str | None = None
    subset: str | None = None
    split: str | None = None
    into: str | None = None
    unpacked: int | None = None
    listed: str | None = None
    inside: str | None = None


@dataclass(frozen=True)
class Citation:
    """What to cite: the text, its DOI, and the key of its BibTeX entry."""

    text: str
    key: str
    doi: str | None = None

    @property
    def whole(self) -> str:
        """In one line."""
        doi = f" https://doi.org/{self.doi}" if self.doi else ""
        return f"{self.text}{doi} (BibTeX key {self.key})"


@dataclass(frozen=True)
class Card:
    """One scan, or one set of them.

    Attributes:
        title: what it shows.
        source: where a stranger finds it.
        licence: SPDX name, or the name of the agreement that its users make.
        split: `train`, or `demo` for scans that no shipped prior was trained on; of a set, `by subject` (the rule of
            `invdiff_datasets.splits`) or `by file` (the source's own).
        sha256: of a scan, checksum of the file as used here.
        description: more of it.
        citation: what its users are asked to cite.
        files: what a set is made of; empty where its loader asks the source.
        registration: what to sign, and where, before it may be fetched; None where it is open.
        checksums: who published the checksums of its files.
        subject: how the names of its files tell whose they are, a regular expression.
        loader: the module of this package that asks the source for the files.
    """

    name: str
    title: str
    source: str
    licence: str
    split: str
    sha256: str = ""
    description: str = ""
    citation: Citation | None = None
    files: tuple[File, ...] = ()
    registration: str | None = None
    checksums: str = ""
    subject: str | None = None
    loader: str | None = None

    @property
    def kind(self) -> str:
        """`sample` inside an installed package, `set` to be fetched, or `scan` that is known by its card alone."""
        return "set" if not self.sha256 else "sample" if self.files else "scan"

    @property
    def subsets(self) -> list[str]:
        """Names of the parts, in the order of the card."""
        return list(dict.fromkeys(f.subset for f in self.files if f.subset))

    @property
    def size(self) -> int | None:
        """Bytes to fetch; None where the source was not asked yet or does not say."""
        sizes = [f.bytes for f in self.files]
        return sum(b for b in sizes if b is not None) if sizes and None not in sizes else None


def cards() -> dict[str, Card]:
    """Cards of single scans, by name."""
    return {name: _scan(name, row) for name, row in _read("scans").items()}


def sets() -> dict[str, Card]:
    """Cards of public sets, by name: each YAML file of this package but that of the scans."""
    names = sorted(
        f.name.removesuffix(".yaml") for f in files("invdiff_datasets").iterdir() if f.name.endswith(".yaml")
    )
    return {name: _set(name, _read(name)) for name in names if name != "scans"}


def find(name: str) -> Card:
    """The card of a scan or a set; `openneuro:ds000001@1.0.0` names a data set and a snapshot of OpenNeuro.

    Raises:
        ConfigError: nothing is called so.
    """
    known = cards() | sets()
    first = name.partition(":")[0]
    if first == "openneuro":
        return replace(known[first], name=name)
    if name not in known:
        raise ConfigError(f"no data is called {name!r}{suggest(name, list(known))}; `invdiff data list` shows all")
    return known[name]


@cache
def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((files("invdiff_datasets") / f"{name}.yaml").read_text(encoding="utf-8"))


def _scan(name: str, row: Mapping[str, Any]) -> Card:
    """A scan; `inside` names the file of a package that it is, `beside` what belongs to it, by ending."""
    facts = dict(row)
    inside, beside = facts.pop("inside", None), facts.pop("beside", {})
    mine = {".nii.gz": {"inside": inside, "sha256": facts["sha256"]}} if inside else {}
    found = tuple(
        File(f"{name}{ending}", inside=f["inside"], checksum=f"sha256:{f['sha256']}")
        for ending, f in (mine | beside).items()
    )
    return Card(name=name, files=found, **facts)


def _set(name: str, row: Mapping[str, Any]) -> Card:
    facts = dict(row)
    found = tuple(File(**f) for f in facts.pop("files", []))
    return Card(name=name, files=found, citation=Citation(**facts.pop("citation")), **facts)
