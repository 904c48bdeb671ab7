"""The pages of a report: each one file that asks nothing of a network, and forbids itself to."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from invdiff import __version__
from invdiff_cli.report import embed, mosaic, sections, views
from invdiff_cli.report.leaves import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from invdiff_cli.report.cases import Run

SCRIPTS = ("volume.js", "planes.js", "gl.js", "viewer.js")


def render(run: Run, first: Path, *, frame: int = 0) -> Iterator[tuple[str, str]]:
    """File name and text of each page, that of the run last; the same bytes for the same inputs.

    Args:
        run: what to show.
        first: the page of the run; the others lie beside it.
        frame: of series, the one that is shown.

    Raises:
        FileError: a volume that cannot be read.
        ConfigError: a frame that a scan does not have.
    """
    pages = leaves(run, first)
    thumbnails: list[str] = []
    for leaf in pages:
        said, carried = [], []
        for n, case in enumerate(leaf.cases):
            scan = views.load(case, frame)
            said.append(sections.of_scan(sections.place(n), case, scan))
            carried.append(embed.payload(case.name, scan))
            thumbnails.append(mosaic.thumbnail(scan))
        whole = sections.of_run(run, pages, thumbnails, leaf.file) if leaf.file == first.name else None
        home = None if whole else first.name
        yield (
            leaf.file,
            _html(title=leaf.title, run=run, sections=said, viewer=_viewer(carried), whole=whole, home=home),
        )
    if first.name not in (leaf.file for leaf in pages):
        whole = sections.of_run(run, pages, thumbnails, first.name)
        yield first.name, _html(title=run.title, run=run, sections=[], viewer=None, whole=whole, home=None)


def _viewer(scans: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page needs to show volumes: they themselves, the scripts, and the licence of those that are not ours."""
    return {
        "data": {"scans": scans, "maps": embed.colour_maps()},
        "niivue": _packed_niivue(),
        "licence": _asset("niivue.LICENSE.txt"),
        "script": _script(),
    }


def _html(**content: Any) -> str:  # noqa: ANN401 - what the template takes
    environment = Environment(
        loader=PackageLoader("invdiff_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        style=_asset("style.css"), policy=_policy(), version=__version__, **content
    )


def _policy() -> str:
    """Nothing from elsewhere; of scripts the page's two, by checksum, so that no name in a file can become one."""
    sums = " ".join(f"'sha256-{_digest(text)}'" for text in (_script(), _asset("niivue.min.js")))
    return (
        f"default-src 'none'; script-src {sums}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return (files("invdiff_cli.report") / "assets" / name).read_text("utf-8")


@cache
def _script() -> str:
    return '"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in SCRIPTS) + "})();"


@cache
def _packed_niivue() -> str:
    return base64.b64encode(gzip.compress(_asset("niivue.min.js").encode(), 9, mtime=0)).decode()
