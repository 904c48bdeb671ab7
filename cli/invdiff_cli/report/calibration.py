"""The picture of a calibration: coverage against level, and the PIT histogram, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from invdiff.files import write_atomic

if TYPE_CHECKING:
    from invdiff.calibration import Check

matplotlib.rcParams["font.size"] = 9
COLOURS = {"before": "tab:orange", "after": "tab:blue"}


def curves(path: Path, found: Check, caption: str) -> None:
    """Two diagrams; what is right lies on the dashed line. The caption breaks at semicolons."""
    figure = Figure(figsize=(7.6, 4.0), layout="constrained", facecolor="white")
    axes: Any = figure.subplots(1, 2)
    axes[0].plot((0, 1), (0, 1), "k--", linewidth=0.8)
    bins = len(found.before["pit"])
    axes[1].axhline(1.0, color="k", linestyle="--", linewidth=0.8)
    for name, colour in COLOURS.items():
        row = getattr(found, name)
        axes[0].plot(row["levels"], row["coverage"], "o-", markersize=3, color=colour, label=name)
        density = bins * np.array(row["pit"])
        axes[1].stairs(density, np.linspace(0, 1, bins + 1), color=colour, label=name)
    axes[0].set(xlabel="nominal level", ylabel="coverage", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[1].set(xlabel="probability below the truth (PIT)", ylabel="density", xlim=(0, 1), ylim=(0, None))
    axes[0].legend(frameon=False)
    lines = [*caption.split("; "), "Research use only."]
    figure.suptitle("\n".join(lines), fontsize=8)
    write_atomic(path, lambda p: figure.savefig(p, dpi=110))
