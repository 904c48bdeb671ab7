"""Di-Fusion (Wu et al., ICLR 2025): a network learns the series from itself, and takes the noise off.

For each volume x there is an x' with the same signal and other noise (`invdiff.denoising.pairing`). The network learns
x from a state between the two and its noise (`invdiff.denoising.process`); what it cannot know of x is its noise, so
that it learns the mean. The walk down from the state ends for each slice when as much was taken off as there is noise,
||x0 - x|| >= sigma over the mask, at the first step as a rule; going on drifts to what x' differs by.

As published x' is the volume before, another direction: `pairing="previous-volume"`, `fusion="paper"`,
`beside=0`, `means=False`.
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

from invdiff.denoising import process
from invdiff.denoising.base import Denoiser, Floats, Run, Series
from invdiff.denoising.pairing import paired
from invdiff.denoising.translation import Pairs, network, padded, translating
from invdiff.networks import Network
from invdiff.preparation import pick_device
from invdiff.priors.network import pick_dtype
from invdiff.rng import generator
from invdiff.training import checkpoints
from invdiff.training.loop import Settings, begin, train

SLICES = 8  # in one network call
FLIPS: tuple[list[int], ...] = ([], [2], [3], [2, 3])


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
    fusion: Annotated[
        Literal["code", "paper"], Doc("Whether x enters the state, as in the paper, or not, as in its code.")
    ] = "code"
    beside: Annotated[int, Ge(0), Doc("Neighbouring slices of x' shown on each side.")] = 1
    means: Annotated[bool, Doc("Show the means of weighted and of unweighted volumes of x', too.")] = True
    first: Annotated[int, Gt(0), Le(300), Doc("Step of the process where the walk begins.")] = 300
    discrepancy: Annotated[float, Ge(0), Doc("Noise to take off, in units of the estimated noise.")] = 0.9
    seed: Annotated[int, Doc("Of weights, crops and noise.")] = 0

    def denoise(self, series: Series, run: Run) -> Floats:
        """All volumes; each keeps its scale."""
        top = series.data.max((0, 1, 2))
        top = np.where(top > 0, top, 1.0).astype(np.float32)
        x = series.data / top
        other = paired(self.pairing, x, series.level / top, series.gradients)
        pairs = self._pairs(series, x, other)
        unit = 2 * series.level / float(np.median(top))
        net = self._trained(pairs, unit, run)
        clean = self._walk(net, pairs, unit, series, top, run)
        return (clean + 1) / 2 * top

    def _pairs(self, series: Series, scaled: Floats, other: Floats) -> Pairs:
        x, o = (padded(_slices(2 * s - 1), 8) for s in (scaled, other))
        b0 = series.gradients.b0
        alike = [g for g in (~b0, b0) if g.any()] if self.means else []
        means = torch.stack([o[torch.from_numpy(g)].mean(0) for g in alike]) if alike else o[:0]
        rows, columns = (np.flatnonzero(series.mask.any(axes)) for axes in ((1, 2), (0, 2)))
        return Pairs(x, o, means, self.beside, (rows[0], rows[-1], columns[0], columns[-1]))

    def _trained(self, pairs: Pairs, unit: float, run: Run) -> Network:
        crop = min(self.crop, *pairs.x.shape[-2:])
        settings = Settings(
            steps=self.steps, batch=self.batch, crop=crop, grow_at=1.0, learning_rate=self.learning_rate,
            decay_from=0.1, ema=max(0.0, 1 - 10 / self.steps), width=self.width, seed=self.seed,
        )  # fmt: skip
        device, facts = pick_device(run.device), run.facts | {"unit": unit}
        kept = run.checkpoint
        if kept is not None and kept.exists():
            state = checkpoints.to(checkpoints.resume(kept, settings, facts), device)
        else:
            state = begin(pairs, settings, network(1 + pairs.seen, settings).to(device).requires_grad_())
        run.expect(self.steps - state.step)
        bf16, saved = pick_dtype("auto", device) == torch.bfloat16, time.monotonic()
        for _ in train(pairs, settings, state, translating(self.fusion, unit), bf16=bf16):
            run.tick(state)
            if kept is not None and (time.monotonic() - saved > run.every or state.step == self.steps):
                checkpoints.save(kept, state, settings, facts)
                saved = time.monotonic()
        return state.ema.eval()

    @torch.no_grad()
    def _walk(self, net: Network, pairs: Pairs, unit: float, series: Series, top: Floats, run: Run) -> Floats:
        device = pick_device(run.device)
        bf16 = pick_dtype("auto", device) == torch.bfloat16
        volumes, slices = pairs.x.shape[:2]
        mask = padded(_slices(series.mask[..., None].astype(np.float32)), 8)[0]
        sigma = 2 * series.level / torch.from_numpy(top)
        out, level = torch.empty_like(pairs.x), process.ABAR.sqrt().float()
        steps = process.grid(self.first)
        for v in range(volumes):
            for z in torch.arange(slices).split(SLICES):
                x, other = pairs.x[v, z][:, None], pairs.other[v, z][:, None]
                beside = pairs.context(torch.full_like(z, v), z)

                def estimate(state: Tensor, t: int, left: Tensor, b: Tensor = beside) -> Tensor:
                    seen = torch.cat([state, b[left]], 1)
                    label = process.label(level[t].expand(len(seen)))
                    return (state + unit * _flipped(net, seen.to(device), label.to(device), bf16)).clamp(-1, 1)

                def enough(clean: Tensor, left: Tensor, v: int = v, z: Tensor = z, x: Tensor = x) -> Tensor:
                    inside = mask[z][left][:, None]
                    off = ((clean - x[left]) ** 2 * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1)
                    return off.sqrt() >= self.discrepancy * sigma[v]

                g = generator(self.seed, "start", v, int(z[0]))
                start = process.state(x, other, self.first, level[self.first].expand(len(x)), g, fusion=self.fusion)
                out[v, z] = process.reverse(estimate, start, steps, enough)[:, 0]
        h, w = series.data.shape[:2]
        return out[..., :h, :w].permute(2, 3, 1, 0).numpy()


def _slices(x: Floats) -> Tensor:
    """(X, Y, Z, V) -> (V, Z, X, Y)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(3, 2, 0, 1)))


def _flipped(net: Network, seen: Tensor, label: Tensor, bf16: bool) -> Tensor:
    """Mean of the network's answers to the four flips."""
    total: Tensor | None = None
    for flip in FLIPS:
        turned = seen.flip(flip).contiguous(memory_format=torch.channels_last)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=bf16):
            answer = net(turned, label)[:, :1].float().flip(flip).cpu()
        total = answer if total is None else total + answer
    assert total is not None
    return total / len(FLIPS)
