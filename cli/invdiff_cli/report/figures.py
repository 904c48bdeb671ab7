"""The picture of a reconstruction: truth, input, result, error, uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from invdiff.files import write_atomic

if TYPE_CHECKING:
    from invdiff.comparison import Comparison

matplotlib.rcParams["font.size"] = 9


def overview(path: Path, result: Comparison, slices: int = 3) -> None:
    """A row per slice, a column per image; error and uncertainty share one colour scale, so they can be compared."""
    images = {name: v.data[0].numpy() for name, v in result.volumes.items()}
    error = np.abs(images["recon"] - images["truth"])
    top = float(np.quantile(images["truth"], 0.995))
    spread = float(np.quantile(error, 0.995))
    columns = [
        ("truth", images["truth"], "gray", top),
        (_title("zero-filled", result, "zero_filled"), images["zero_filled"], "gray", top),
        (_title("TV", result, "tv"), images["tv"], "gray", top),
        (_title("reconstruction", result, "reconstruction"), images["recon"], "gray", top),
        ("|error|", error, "magma", spread),
        ("uncertainty (std)", images["recon_std"], "magma", spread),
    ]
    sides = images["truth"].shape
    picks = np.linspace(0.25 * sides[2], 0.75 * sides[2], slices).astype(int)
    height = 2.1 * sides[1] / sides[0] * slices + 0.7
    figure = Figure(figsize=(2.1 * len(columns) + 0.8, height), layout="constrained", facecolor="white")
    axes: Any = figure.subplots(slices, len(columns), squeeze=False)
    for row, k in enumerate(picks):
        for axis, (title, image, colours, high) in zip(axes[row], columns, strict=True):
            drawn = axis.imshow(np.rot90(image[:, :, k]), cmap=colours, vmin=0, vmax=high, interpolation="nearest")
            axis.set(xticks=[], yticks=[], title=title if row == 0 else "")
        axes[row][0].set_ylabel(f"slice {k}")
    figure.colorbar(drawn, ax=axes[:, -2:], label="intensity")
    write_atomic(path, lambda p: figure.savefig(p, dpi=110))


def _title(text: str, result: Comparison, name: str) -> str:
    row = result.metrics[name]
    return f"{text}\n{row['psnr']:.2f} dB, SSIM {row['ssim']:.3f}"
