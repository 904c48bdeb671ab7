"""Pictures of priors: what they make of noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import torch
from matplotlib.figure import Figure

from invdiff.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from invdiff.networks import Network
    from invdiff.priors.checkpoints import Card
    from invdiff.training.validation import BridgeValidation, Validation

matplotlib.rcParams["font.size"] = 9
LEVELS = (0.05, 0.2, 0.5)


def training_picture(path: Path, net: Network, card: Card, validation: Validation, columns: int = 8) -> None:
    """Held-out crops, noisy and denoised at three levels, and a row of unconditional samples."""
    from invdiff.sampling import draw

    rows: list[tuple[str, Tensor]] = [("held out", validation.x0)]
    for level in LEVELS:
        rows.append((f"noise {level:g}", validation.x0 + level * validation.noise))
        rows.append(("denoised", validation.denoised(net, card.std, level)))
    rows.append(("samples", draw(net, card, size=tuple(validation.x0.shape[2:]), seeds=range(columns))))
    _grid(path, rows, columns)


def bridge_picture(path: Path, net: Network, card: Card, validation: BridgeValidation) -> None:
    """Held-out crops, degraded, and restored in one step."""
    from invdiff.training.validation import kept

    last = len(validation.settings.way()) - 1
    with kept(net), torch.no_grad():
        restored = validation.bridge(net.cpu(), card.std).clean(validation.x1, validation.x1, last)
    rows = [("held out", validation.x0), ("degraded", validation.x1), ("one step", restored)]
    _grid(path, rows, len(restored))


def _grid(path: Path, rows: list[tuple[str, Tensor]], columns: int) -> None:
    """Magnitudes, a titled row of images each."""
    figure = Figure(figsize=(1.2 * columns + 0.6, 1.2 * len(rows)), layout="constrained", facecolor="white")
    axes: Any = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, images) in zip(axes, rows, strict=True):
        for axis, image in zip(line, images[:columns], strict=False):
            axis.imshow(
                torch.linalg.vector_norm(image, dim=0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
            )
        for axis in line:
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title)
    write_atomic(path, lambda p: figure.savefig(p, dpi=110))
