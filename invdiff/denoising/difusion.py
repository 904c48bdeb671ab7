"""Di-Fusion (Wu et al., ICLR 2025): a network learns the series from itself, and takes the noise off.

For each volume x there is an x' with the same signal and other noise (`invdiff.denoising.pairing`). The network learns
x from a state between the two and its noise (`invdiff.denoising.process`); what it cannot know of x is its noise, so
that it learns the mean. The walk down from the state ends for each slice when as much was taken off as there is noise,
||x0 - x|| >= sigma over the mask, at the first step as a rule; going on drifts to what x' differs by.

The errors of the network and of MP-PCA differ in kind, so that a mean of both has less than either (`ensemble`).

As published x' is the volume before, another direction: `pairing="previous-volume"`, `fusion="paper"`,
`beside=0`, `means=False`, `ensemble=0`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le
from torch import Tensor

from invdiff.denoising.base import Denoiser, Floats, Run, Series
from invdiff.denoising.pairing import paired
from invdiff.denoising.translation import Pairs, network, padded, translating
from invdiff.denoising.walk import Walk
from invdiff.networks import Network
from invdiff.preparation import pick_device
from invdiff.priors.network import pick_dtype
from invdiff.training import checkpoints
from invdiff.training.loop import Settings, begin, train


@dataclass(frozen=True, kw_only=True)
class DiFusion(Denoiser):
    """One network per series, trained on it alone: minutes on a CPU."""

    paper: ClassVar[str] = (
        "Wu et al., Self-supervised diffusion MRI denoising via iterative and stable refinement, ICLR 2025"
    )
    fewest: ClassVar[int] = 6

    steps: Annotated[int, Gt(0), Doc("Optimiser steps.")] = 4000
    batch: Annotated[int, Gt(0), Doc("Slices, or crops of them, per step.")] = 16
    crop: Annotated[int, Gt(0), Doc("Side of a crop in voxels; a multiple of 8.")] = 64
    width: Annotated[int, Gt(0), Doc("Network channels at the finest level.")] = 32
    learning_rate: Annotated[float, Gt(0), Doc("Peak learning rate of AdamW.")] = 1e-3
    pairing: Annotated[
        Literal["local", "patch2self", "previous-volume", "nearest-volume"],
        Doc("x': predicted by all other volumes in windows, or everywhere alike; or another volume."),
    ] = "local"
    window: Annotated[float, Gt(0), Doc("Voxels, for each volume, of a window of `local` pairs.")] = 12.0
    fusion: Annotated[
        Literal["code", "paper"], Doc("Whether x enters the state, as in the paper, or not, as in its code.")
    ] = "code"
    beside: Annotated[int, Ge(0), Doc("Neighbouring slices of x' shown on each side.")] = 1
    means: Annotated[bool, Doc("Show the means of weighted and of unweighted volumes of x', too.")] = True
    first: Annotated[int, Gt(0), Le(300), Doc("Step of the process where the walk begins.")] = 300
    discrepancy: Annotated[float, Ge(0), Doc("Noise to take off, in units of the estimated noise.")] = 0.9
    ensemble: Annotated[float, Ge(0), Le(1), Doc("Share of what MP-PCA leaves of the series in the result.")] = 0.3
    seed: Annotated[int, Doc("Of weights, crops and noise.")] = 0

    def denoise(self, series: Series, run: Run) -> Floats:
        """All volumes; each keeps its scale."""
        top = series.data.max((0, 1, 2))
        top = np.where(top > 0, top, 1.0).astype(np.float32)
        x = series.data / top
        other = paired(self.pairing, x, series.level / top, series.gradients, self.window)
        pairs = self._pairs(series, x, other)
        unit = 2 * series.level / float(np.median(top))
        device = pick_device(run.device)
        bf16 = pick_dtype("auto", device) == torch.bfloat16
        net = self._trained(pairs, unit, run, device, bf16)
        walk = Walk(
            net=net, pairs=pairs, unit=unit, inside=padded(_slices(series.mask[..., None].astype(np.float32)), 8)[0],
            least=2 * self.discrepancy * series.level / torch.from_numpy(top), first=self.first, fusion=self.fusion,
            seed=self.seed, bf16=bf16,
        )  # fmt: skip
        h, w = x.shape[:2]
        clean: Floats = walk()[..., :h, :w].permute(2, 3, 1, 0).numpy()
        return (1 - self.ensemble) * (clean + 1) / 2 * top + self.ensemble * series.components

    def _pairs(self, series: Series, scaled: Floats, other: Floats) -> Pairs:
        x, o = (padded(_slices(2 * s - 1), 8) for s in (scaled, other))
        b0 = series.gradients.b0
        alike = [g for g in (~b0, b0) if g.any()] if self.means else []
        means = torch.stack([o[torch.from_numpy(g)].mean(0) for g in alike]) if alike else o[:0]
        rows, columns = (np.flatnonzero(series.mask.any(axes)) for axes in ((1, 2), (0, 2)))
        return Pairs(x, o, means, self.beside, (rows[0], rows[-1], columns[0], columns[-1]))

    def _trained(self, pairs: Pairs, unit: float, run: Run, device: torch.device, bf16: bool) -> Network:
        crop = min(self.crop, *pairs.x.shape[-2:])
        settings = Settings(
            steps=self.steps, batch=self.batch, crop=crop, grow_at=1.0, learning_rate=self.learning_rate,
            decay_from=0.1, ema=max(0.0, 1 - 10 / self.steps), width=self.width, seed=self.seed,
        )  # fmt: skip
        facts, kept = run.facts | {"unit": unit}, run.checkpoint
        if kept is not None and kept.exists():
            state = checkpoints.to(checkpoints.resume(kept, settings, facts), device)
        else:
            state = begin(pairs, settings, network(1 + pairs.seen, settings).to(device).requires_grad_())
        run.expect(self.steps - state.step)
        saved = time.monotonic()
        for _ in train(pairs, settings, state, translating(self.fusion, unit), bf16=bf16):
            run.tick(state)
            if kept is not None and (time.monotonic() - saved > run.every or state.step == self.steps):
                checkpoints.save(kept, state, settings, facts)
                saved = time.monotonic()
        return state.ema.eval()


def _slices(x: Floats) -> Tensor:
    """(X, Y, Z, V) -> (V, Z, X, Y)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(3, 2, 0, 1)))
