"""Plots as SVG inside the page: they take its font, and its ink on light and dark paper."""

from __future__ import annotations

import hashlib
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from invdiff_cli.report.measures import psnr_of_slices, sizes_of_slices
from invdiff_cli.report.views import TITLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from invdiff_cli.report.views import Array, Scan

INK = "#000000"  # stands for the page's own
COLOURS = {"mean": "#3f7fbf", "tv": "#c07a1e", "direct": "#8a8a8a", "error": "#c0504d", "std": "#7a5fb5"}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # names of metrics come from files
    "svg.hashsalt": "invdiff",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
BOTH = "Error and uncertainty of each slice, root mean square: of one size where the uncertainty is honest."


def slices(scan: Scan) -> list[tuple[str, str]]:
    """What the plots show, and the plots: PSNR of each slice, and its error beside its uncertainty."""
    if scan.images["mean"].stored.shape[2] < 2:
        return []
    plots = []
    if curves := psnr_of_slices(scan):
        text = "PSNR of each slice along the third stored axis, over that slice's range of intensities."
        plots.append((text, _lines("PSNR / dB", curves)))
    if sizes := sizes_of_slices(scan):
        text = BOTH if len(sizes) > 1 else f"{TITLES[next(iter(sizes))]} of each slice, root mean square."
        plots.append((text, _lines("intensity", sizes)))
    return plots


def spread(values: Mapping[str, Sequence[float]]) -> str:
    """A dot per scan, in their order, and a bar at the median; the metrics side by side."""
    with rc_context(STYLE):
        figure = Figure(figsize=(1.7 * len(values), 2.6), layout="constrained")
        axes: Any = figure.subplots(1, len(values), squeeze=False)
        for axis, (title, dots) in zip(axes[0], values.items(), strict=True):
            axis.plot(np.linspace(-0.3, 0.3, len(dots)), dots, "o", color=COLOURS["mean"], markersize=4, alpha=0.8)
            axis.hlines(np.median(dots), -0.45, 0.45, color=INK, linewidth=1)
            axis.set(xlim=(-0.6, 0.6), xticks=[], title=title)
        return _svg(figure)


def _lines(label: str, curves: Mapping[str, Array]) -> str:
    with rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.9), layout="constrained")
        axis: Any = figure.subplots()
        for role, y in curves.items():
            axis.plot(y, color=COLOURS[role], label=TITLES[role], marker=".", markersize=3)
        axis.set(xlabel="slice", ylabel=label)
        axis.legend(loc="best")
        return _svg(figure)


def _svg(figure: Figure) -> str:
    """Without prologue, metadata and size; with names that no other plot of the page has."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata=NO_METADATA)
    text = out.getvalue()
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text[text.index("<svg") :], count=2)
    text = re.sub(r'<g id="[^"]*">', "<g>", text).replace(INK, "currentColor")
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r'(id="|"#|url\(#)(\w+)', rf"\1\2-{own}", text)
