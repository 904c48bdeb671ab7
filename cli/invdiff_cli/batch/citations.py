"""Whom to cite for a run: invdiff, and the papers of the methods used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from invdiff import __version__, catalogue
from invdiff.files import write_text

SOFTWARE = {
    "key": "invdiff",
    "title": "invdiff: posterior reconstruction of medical scans",
    "authors": "the invdiff developers",
}


def of(solver: str | None) -> list[dict[str, Any]]:
    """invdiff itself, and the paper of a solver, as key, title, authors, venue and year."""
    out: list[dict[str, Any]] = [SOFTWARE | {"venue": f"version {__version__}", "year": None}]
    paper = catalogue.find("solvers", solver).get("paper") if solver else None
    if paper and (parts := split(paper)):
        out.append({"key": str(solver), **parts})
    return out


def split(paper: str) -> dict[str, Any] | None:
    """`Lee et al., Improving ..., ICCV 2023` as authors, title, venue and year."""
    start, _, rest = paper.partition(", ")
    if start and " et al." not in start and " and " not in start:  # Lustig, Donoho and Pauly
        more, _, rest = rest.partition(", ")
        start = f"{start}, {more}"
    found = re.fullmatch(r"(?P<title>.+), (?P<venue>.+) (?P<year>\d{4})", rest)
    return {"authors": start, **found.groupdict(), "year": int(found["year"])} if found else None


def write(folder: Path, citations: list[dict[str, Any]]) -> None:
    """CITATION.cff, the software with its references, and CITATION.bib."""
    write_text(folder / "CITATION.cff", _cff(citations))
    write_text(folder / "CITATION.bib", _bib(citations))


def _cff(citations: list[dict[str, Any]]) -> str:
    import yaml

    software, *papers = citations
    content: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "These reconstructions were made with invdiff; please cite it and the papers of its methods.",
        "type": "software",
        "title": software["title"],
        "version": __version__,
        "license": "Apache-2.0",
        "authors": [{"name": software["authors"]}],
    }
    if papers:
        content["references"] = [
            {"type": "article", "title": p["title"], "authors": [{"name": p["authors"]}], "year": p["year"],
             "notes": p["venue"]} for p in papers
        ]  # fmt: skip
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _bib(citations: list[dict[str, Any]]) -> str:
    return "\n".join(_entry(c) for c in citations)


def _entry(c: dict[str, Any]) -> str:
    authors = c["authors"].replace(" et al.", " and others").replace(", ", " and ")
    fields = {"title": c["title"], "author": authors, "note": c["venue"], "year": c["year"]}
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{c['key']},", *lines, "}", ""])
