"""Data sets of OpenNeuro, from the listing of its public bucket."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode
from xml.etree import ElementTree

from invdiff.errors import ConfigError, DatasetError
from invdiff_datasets.base import Card, Citation, File
from invdiff_datasets.web import Patience, read, read_json, shown

BUCKET = "https://s3.amazonaws.com/openneuro.org"
NAME = re.compile(r"openneuro:(ds[0-9]{6})(?:@([0-9A-Za-z.]+))?")


def resolve(card: Card, patience: Patience) -> Card:
    """The card of a data set, from its own description, with its files.

    The bucket has the newest snapshot of a set; the DOI in dataset_description.json says which that is.

    Raises:
        ConfigError: the name is none.
        DatasetError: no such set, or another snapshot than was asked for.
    """
    parts = NAME.fullmatch(card.name)
    if not parts:
        raise ConfigError(f"{card.name!r} names no data set; write openneuro:ds000001, or openneuro:ds000001@1.0.0")
    which, asked = parts[1], parts[2]
    told = read_json(f"{BUCKET}/{which}/dataset_description.json", patience)
    told = told if isinstance(told, dict) else {}
    doi = re.search(rf"10\.18112/openneuro\.{which}\.v([0-9A-Za-z.]+)", str(told.get("DatasetDOI", "")))
    held = doi[1] if doi else None
    if asked and asked != held:
        raise DatasetError(
            f"the bucket of OpenNeuro has snapshot {held or 'of unknown number'} of {which}, not {asked}; ask for that "
            f"one, or get the older one with datalad (https://openneuro.org/datasets/{which})"
        )
    licence = str(told.get("License") or "not stated")
    return replace(
        card,
        name=f"openneuro:{which}{'@' + held if held else ''}",
        title=f"{told.get('Name', which)} (OpenNeuro {which})",
        source=f"https://openneuro.org/datasets/{which}{'/versions/' + held if held else ''}",
        licence={"CC0": "CC0-1.0", "CC BY 4.0": "CC-BY-4.0"}.get(licence, licence),
        citation=_citation(which, told, doi.group() if doi else None),
        files=_files(which, patience),
        loader=None,
    )


def _citation(which: str, told: dict[str, Any], doi: str | None) -> Citation:
    authors = told.get("Authors") or ["Authors not stated"]
    wish = f" {told['HowToAcknowledge']}" if told.get("HowToAcknowledge") else ""
    return Citation(f"{', '.join(map(str, authors))}. {told.get('Name', which)}. OpenNeuro {which}.{wish}", which, doi)


def _files(which: str, patience: Patience) -> tuple[File, ...]:
    found: list[File] = []
    more: dict[str, str] | None = {}
    while more is not None:
        asked = {"list-type": "2", "prefix": f"{which}/", "encoding-type": "url", **more}
        url = f"{BUCKET}/?{urlencode(asked)}"
        page, token = _page(read(url, patience), url)
        found += [f for row in page if (f := _file(which, row))]
        more = {"continuation-token": token} if token else None
    if not found:
        raise DatasetError(f"the bucket of OpenNeuro has no files of {which}; is it public?")
    return tuple(found)


def _page(content: bytes, url: str) -> tuple[list[dict[str, str]], str | None]:
    """Rows of a listing (ListObjectsV2), and what asks for the next."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as e:
        raise DatasetError(f"{shown(url)}: the listing cannot be read ({e})") from None
    rows = [{_bare(x.tag): x.text or "" for x in node} for node in root if _bare(node.tag) == "Contents"]
    tokens = [node.text for node in root if _bare(node.tag) == "NextContinuationToken"]
    return rows, tokens[0] if tokens else None


def _file(which: str, row: dict[str, str]) -> File | None:
    key = unquote_plus(row["Key"])
    path = key.removeprefix(f"{which}/")
    if not path or path.endswith("/") or path.startswith((".git", ".datalad")):
        return None
    tag = row.get("ETag", "").strip('"')
    return File(
        path,
        url=f"{BUCKET}/{quote(key)}",
        bytes=int(row["Size"]),
        checksum=f"md5:{tag}" if re.fullmatch("[0-9a-f]{32}", tag) else None,  # else it was uploaded in pieces
        subset=_subset(path),
    )


def _subset(path: str) -> str | None:
    """`anat/T1w`: the folder that a file lies in and its suffix; None at the top."""
    folders, _, name = path.rpartition("/")
    suffix = name.partition(".")[0].rpartition("_")[2]
    return f"{folders.rpartition('/')[2]}/{suffix}" if folders else None


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]
