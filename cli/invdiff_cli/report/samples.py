"""The picture of unconditional samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from invdiff.files import write_atomic

if TYPE_CHECKING:
    from invdiff.sampling import Samples

matplotlib.rcParams["font.size"] = 9


def grid(path: Path, drawn: Samples) -> None:
    """A square of samples on one grey scale: the prior's window, or zero to one."""
    count, h, w = drawn.images.shape
    columns = math.ceil(math.sqrt(count))
    lines = math.ceil(count / columns)
    low, high = drawn.card.units["window"] or (0.0, 1.0)
    side = 1.6
    figure = Figure(figsize=(side * columns, side * h / w * lines + 0.4), layout="constrained", facecolor="white")
    axes: Any = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image in zip(axes.flat, drawn.images, strict=False):
        axis.imshow(image.numpy(), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    figure.suptitle(f"{drawn.card.name}: {count} samples of the prior, no scans.\nResearch use only.")
    write_atomic(path, lambda p: figure.savefig(p, dpi=110))
