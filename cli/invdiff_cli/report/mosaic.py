"""A three-plane picture of each image of a scan, with where right, front and top are, and a colour bar."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from invdiff_cli.report.views import PLANES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from invdiff_cli.report.views import Array, Image, Scan

LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # low and high end of each axis
WIDTH, BAR, GAP, THUMBNAIL = 2.6, 0.42, 0.04, 0.64  # inches: a picture, its colour bar, between planes, in a table
DPI = 150
STYLE: Any = {"font.size": 8, "text.color": "0.85", "xtick.color": "0.85", "axes.edgecolor": "0.4"}


def across(scan: Scan) -> list[int]:
    """Axes across the planes that are worth a picture: axial first; none of a single row of voxels."""
    return [a for a in (2, 1, 0) if all(n > 1 for i, n in enumerate(scan.shape) if i != a)] or [2]


def plane(x: Array, axis: int, k: int) -> Array:
    """Slice k across an axis of (R, A, S), as rows from the top: front or head up, the subject's right at the right."""
    return np.take(x, k, axis).T[::-1]


def picture(scan: Scan, image: Image) -> str:
    """The planes through the centre of the scan above each other, in millimetres; WebP as a data URI."""
    sides = {a: [scan.shape[i] * scan.spacing[i] for i in range(3) if i != a] for a in across(scan)}
    widest = max(w for w, _ in sides.values())
    heights = [WIDTH * h / widest for _, h in sides.values()]
    total = sum(heights) + GAP * (len(heights) - 1) + BAR
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, total), facecolor="black")
        top = total
        for (axis, (w, h)), height in zip(sides.items(), heights, strict=True):
            top -= height
            width = w / widest
            panel = figure.add_axes(((1 - width) / 2, top / total, width, height / total))
            _panel(panel, scan, image, axis, aspect=h / w)
            top -= GAP
        _bar(figure, image, total)
        return _encoded(figure)


def thumbnail(scan: Scan) -> str:
    """The reconstruction's axial slice through the centre, for a table; WebP as a data URI."""
    image = scan.images["mean"]
    pixels = plane(image.shown, 2, scan.centre()[2])
    height, width = (n * s for n, s in zip(pixels.shape, scan.spacing[1::-1], strict=True))
    longer = max(height, width)
    figure = Figure(figsize=(THUMBNAIL * width / longer, THUMBNAIL * height / longer))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set_axis_off()
    panel.imshow(pixels, cmap="gray", vmin=image.low, vmax=image.high, aspect="auto")
    return _encoded(figure)


def description(scan: Scan, image: Image) -> str:
    """What the picture shows, for those who cannot see it."""
    cuts = ", ".join(f"{PLANES[a]} {scan.centre()[a] + 1} of {scan.shape[a]}" for a in across(scan))
    return f"{image.title}, slices {cuts}; from {image.low:.3g} to {image.high:.3g}"


def _panel(panel: Axes, scan: Scan, image: Image, axis: int, *, aspect: float) -> None:
    pixels = plane(image.shown, axis, scan.centre()[axis])
    rows, columns = pixels.shape
    panel.set_axis_off()
    panel.imshow(
        pixels,
        cmap=image.colours,
        vmin=image.low,
        vmax=image.high,
        interpolation="nearest",
        aspect=aspect * columns / rows,
    )
    right, up = (i for i in range(3) if i != axis)
    where: dict[str, Any] = {"transform": panel.transAxes, "fontsize": 7}
    panel.text(0.02, 0.5, LETTERS[right][0], ha="left", va="center", **where)
    panel.text(0.98, 0.5, LETTERS[right][1], ha="right", va="center", **where)
    panel.text(0.5, 0.98, LETTERS[up][1], ha="center", va="top", **where)
    panel.text(0.5, 0.02, LETTERS[up][0], ha="center", va="bottom", **where)


def _bar(figure: Figure, image: Image, total: float) -> None:
    bar = figure.add_axes((0.12, (BAR - 0.14) / total, 0.76, 0.07 / total))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=image.colours, aspect="auto", extent=(image.low, image.high, 0, 1))
    bar.set_yticks([])
    bar.locator_params(axis="x", nbins=3)
    bar.tick_params(length=2, pad=1)


def _encoded(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="webp", dpi=DPI, pil_kwargs={"quality": 88, "method": 6})
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
