"""Training of Di-Fusion's network on one series: from a state near x' to the noisy slice itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from invdiff.denoising import process
from invdiff.networks import UNet
from invdiff.rng import generator
from invdiff.training.loop import Settings, Task


@dataclass(frozen=True, eq=False)
class Pairs:
    """Slices x and what the network sees of them, as a source of crops; padded to what the network takes.

    Attributes:
        x: noisy, (V, Z, H, W), each volume on [-1, 1].
        other: x', the same.
        means: of x' over volumes alike, shown beside each slice, (K, Z, H, W).
        beside: slices shown on each side of a slice.
        inside: rows and columns of the tissue, for the crops: first and last of each.
        channels: of the image.
    """

    x: Tensor
    other: Tensor
    means: Tensor
    beside: int
    inside: tuple[int, int, int, int]
    channels: int = 1

    @property
    def seen(self) -> int:
        """Channels beside the state: neighbouring slices and means."""
        return 2 * self.beside + len(self.means)

    def context(self, volume: Tensor, z: Tensor) -> Tensor:
        """What is shown beside the states of slices z of volumes, (n,) and (n,) -> (n, seen, H, W)."""
        last = self.x.shape[1] - 1
        steps = [d for d in range(-self.beside, self.beside + 1) if d]
        near = [self.other[volume, (z + d).clamp(0, last)] for d in steps]
        parts = [*near, *self.means[:, z]]
        return torch.stack(parts, 1) if parts else self.x.new_empty(len(z), 0, *self.x.shape[2:])

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Crops (count, 2 + seen, size, size) of x, x' and what is beside, of the tissue, at random flipped."""
        volumes, slices, h, w = self.x.shape
        v = torch.randint(volumes, (count,), generator=generator)
        z = torch.randint(slices, (count,), generator=generator)
        whole = torch.cat([self.x[v, z][:, None], self.other[v, z][:, None], self.context(v, z)], 1)
        a, b, c, d = self.inside
        top, left = _starts(a, b, h, size, count, generator), _starts(c, d, w, size, count, generator)
        crops = [image[:, i : i + size, j : j + size] for image, i, j in zip(whole, top, left, strict=True)]
        flips = torch.rand((count, 2), generator=generator) < 0.5
        return torch.stack(
            [crop.flip([k + 1 for k in range(2) if flip[k]]) for crop, flip in zip(crops, flips.tolist(), strict=True)]
        )


def _starts(first: int, last: int, length: int, size: int, count: int, g: Generator) -> list[int]:
    """Where crops begin, so that their middles are anywhere between first and last."""
    size = min(size, length)
    middle = torch.randint(first, last + 1, (count,), generator=g) - size // 2
    return middle.clamp(0, length - size).tolist()


def translating(fusion: str, unit: float) -> Task:
    """From the state and what is beside it to the noisy slice: its residual, in units of the noise."""

    def task(crops: Tensor, g: Generator, std: float) -> tuple[Tensor, Tensor, Tensor]:
        del std
        x, other, beside = crops[:, :1], crops[:, 1:2], crops[:, 2:]
        t = int(torch.randint(1, process.LATTER, (), generator=g))
        low, high = float(process.ABAR[t]) ** 0.5, float(process.ABAR[t - 1]) ** 0.5
        level = low + (high - low) * torch.rand(len(x), generator=g)
        state = process.state(x, other, t, level, g, fusion=fusion)
        return torch.cat([state, beside], 1), process.label(level), (x - state) / unit

    return task


def network(channels: int, settings: Settings) -> UNet:
    """Fresh weights from the seed; its first channel is the answer."""
    with torch.random.fork_rng():
        torch.random.set_rng_state(generator(settings.seed, "weights").get_state())
        w = settings.width
        return UNet(in_channels=channels, channels=(w, 2 * w, 3 * w), blocks=1)


def padded(x: Tensor, multiple: int) -> Tensor:
    """Rows and columns repeated at the end until both are multiples, (..., H, W)."""
    h, w = x.shape[-2:]
    sides = (0, -w % multiple, 0, -h % multiple)
    return F.pad(x.flatten(0, -4), sides, mode="replicate").unflatten(0, x.shape[:-3])
