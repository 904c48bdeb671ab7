"""Down from the state with a trained network, slice by slice, until as much is taken off as there is noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from invdiff.denoising import process
from invdiff.denoising.translation import Pairs
from invdiff.networks import Network
from invdiff.rng import generator

SLICES = 8  # in one network call
FLIPS: tuple[list[int], ...] = ([], [2], [3], [2, 3])


@dataclass(frozen=True)
class Walk:
    """What the slices of a series have in common on their way.

    Attributes:
        net: the network, on its device.
        pairs: x, x' and what is shown beside them.
        unit: of its answers, in the units of x.
        inside: where there is tissue, (Z, H, W), 0 or 1.
        least: root mean square that is to be taken off in there, of each volume, (V,).
        first: step of the process where the walk begins.
        fusion: of x and x' in that state, `code` or `paper`.
        seed: of the order of pixels in it.
        bf16: whether the network may compute in bfloat16.
    """

    net: Network
    pairs: Pairs
    unit: float
    inside: Tensor
    least: Tensor
    first: int
    fusion: str
    seed: int
    bf16: bool

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """The clean series, (V, Z, H, W)."""
        out = torch.empty_like(self.pairs.x)
        for v, volume in enumerate(out):
            for z in torch.arange(len(volume)).split(SLICES):
                volume[z] = self.slices(v, z)
        return out

    def slices(self, v: int, z: Tensor) -> Tensor:
        """The clean slices z of volume v, (n, H, W)."""
        x, other = self.pairs.x[v, z][:, None], self.pairs.other[v, z][:, None]
        g, level = generator(self.seed, "start", v, int(z[0])), _level(self.first).expand(len(x))
        start = process.state(x, other, self.first, level, g, fusion=self.fusion)
        beside = self.pairs.context(torch.full_like(z, v), z)
        steps = process.grid(self.first)
        return process.reverse(partial(self.estimate, beside), start, steps, partial(self.enough, v, z))[:, 0]

    def estimate(self, beside: Tensor, state: Tensor, t: int, left: Tensor) -> Tensor:
        """x0 of the states (n, 1, H, W) at t that are left of those with `beside`."""
        label = process.label(_level(t).expand(len(state)))
        return (state + self.unit * self._answer(torch.cat([state, beside[left]], 1), label)).clamp(-1, 1)

    def enough(self, v: int, z: Tensor, clean: Tensor, left: Tensor) -> Tensor:
        """Whether so much is taken off the slices that are left, (n,)."""
        inside = self.inside[z[left]][:, None]
        squares = (clean - self.pairs.x[v, z[left]][:, None]) ** 2
        off = (squares * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1)
        return off.sqrt() >= self.least[v]

    def _answer(self, seen: Tensor, label: Tensor) -> Tensor:
        """Mean of the network's answers to the four flips."""
        device = next(self.net.parameters()).device
        seen, label = seen.to(device), label.to(device)
        total = torch.zeros(())
        for flip in FLIPS:
            turned = seen.flip(flip).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                answer = self.net(turned, label)[:, :1].float().flip(flip).cpu()
            total = total + answer
        return total / len(FLIPS)


def _level(t: int) -> Tensor:
    return process.ABAR[t].sqrt().float()
