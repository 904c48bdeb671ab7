"""The picture of a denoised series: raw, denoised, what was taken off, and what that does to the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from invdiff.errors import ConfigError
from invdiff.files import write_atomic
from invdiff.volumes.layout import voxelwise

if TYPE_CHECKING:
    from invdiff.denoising import Denoised
    from invdiff.volumes import Volume
    from invdiff.volumes.gradients import Gradients

matplotlib.rcParams["font.size"] = 9


def overview(path: Path, raw: Volume, result: Denoised, gradients: Gradients) -> None:
    """One slice in the middle: a volume of each shell (row), and FA where tensors can be fitted."""
    k = int(np.flatnonzero(result.mask.any((0, 1))).mean())
    before, after = (v.data[..., k].numpy() for v in (raw, result.volume))
    anisotropy = _anisotropy(raw, result, gradients, k)
    shells = gradients.shells() or {0: np.arange(len(gradients))}
    rows, sides = len(shells), before.shape[1:]
    columns = 3 + len(anisotropy)
    height = 2.2 * sides[1] / sides[0] * rows + 0.8
    figure = Figure(figsize=(2.2 * columns + 0.6, height), layout="constrained", facecolor="white")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    spread = 4 * result.facts["noise"]
    for row, (b, index) in zip(axes, shells.items(), strict=True):
        v = index[len(index) // 2]
        top = float(np.quantile(before[v][result.mask[..., k]], 0.995))
        _show(row[0], before[v], f"b = {b}, volume {v}", 0, top)
        _show(row[1], after[v], f"denoised, {result.facts['method']['kind']}", 0, top)
        _show(row[2], before[v] - after[v], "residual", -spread, spread)
    for axis, (title, image) in zip(axes[0][3:], anisotropy.items(), strict=True):
        _show(axis, image, title, 0, 1)
    figure.suptitle(f"slice {k}, noise {result.facts['noise']:.3g}. Research use only.")
    write_atomic(path, lambda p: figure.savefig(p, dpi=110))


def _anisotropy(raw: Volume, result: Denoised, gradients: Gradients, k: int) -> dict[str, Any]:
    from invdiff.metrics.dmri import fit

    mask = result.mask[..., k : k + 1]
    slices = {"FA before": raw, "FA after": result.volume}
    try:
        found = {
            title: fit(voxelwise(v.data[..., k : k + 1]), gradients, mask).fa[..., 0] for title, v in slices.items()
        }
    except ConfigError:  # too few directions for a tensor
        return {}
    return found


def _show(axis: Any, image: Any, title: str, low: float, high: float) -> None:  # noqa: ANN401 - of matplotlib
    axis.imshow(np.rot90(image), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title)


def compared(path: Path, volume: Volume, others: dict[str, Volume], gradients: Gradients, mask: Any) -> None:  # noqa: ANN401 - a NumPy array
    """One slice in the middle: FA of all series, and their differences from the denoised one."""
    from invdiff.metrics.dmri import fit

    k = int(np.flatnonzero(mask.any((0, 1))).mean())
    inside = mask[..., k : k + 1]
    every = {"denoised": volume, **others}
    slices = {name: voxelwise(v.data[..., k : k + 1]) for name, v in every.items()}
    fa = {name: fit(x, gradients, inside).fa[..., 0] for name, x in slices.items()}
    sides = inside.shape
    figure = Figure(figsize=(2.4 * len(every) + 0.4, 4.8 * sides[1] / sides[0] + 0.8), layout="constrained")
    axes: Any = figure.subplots(2, len(every), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    size = {n: np.sqrt(((x - slices["denoised"]) ** 2).mean(-1))[..., 0] for n, x in slices.items() if n != "denoised"}
    for column, name in enumerate(every):
        _show(axes[0, column], fa[name], f"FA, {name}", 0, 1)
        if name in size:
            _show(axes[1, column], size[name], f"|{name} - denoised|", 0, float(np.quantile(size[name], 0.995)) or 1)
    figure.suptitle(f"slice {k}. Research use only.")
    write_atomic(path, lambda p: figure.savefig(p, dpi=110))
