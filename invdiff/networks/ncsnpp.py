"""NCSN++ and DDPM++ of "Score-Based Generative Modeling through SDEs" (Song et al. 2021), with BigGAN blocks.

Parameters have the names of the published code, which keeps all layers in one list, `all_modules`, in the order of use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.networks.base import Network
from invdiff.networks.layers import Precise, attend, fir, fir_down, fir_up, sinusoid


def norm(channels: int) -> nn.GroupNorm:
    """Group norm of at most 32 groups, of at least 4 channels."""
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


class Resample(nn.Module):
    """FIR resampling without weights, "up" or "down"."""

    kernel: Tensor

    def __init__(self, way: str, taps: Sequence[int]) -> None:
        super().__init__()
        self.way = way
        self.register_buffer("kernel", fir(taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> half or twice the size."""
        return fir_up(x, self.kernel) if self.way == "up" else fir_down(x, self.kernel)


class FirConv(nn.Module):
    """Filter, then a convolution of stride 2; padded only once."""

    kernel: Tensor

    def __init__(self, channels: int, out: int, taps: Sequence[int]) -> None:
        super().__init__()
        self.Conv2d_0 = nn.Conv2d(channels, out, 3, stride=2)
        self.register_buffer("kernel", fir(taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        pad = len(self.kernel) // 2
        weight = self.kernel.to(x.dtype).expand(x.shape[1], 1, *self.kernel.shape)
        return self.Conv2d_0(F.conv2d(x, weight, padding=pad, groups=x.shape[1]))


class Combine(nn.Module):
    """The downsampled image enters again, added or as extra channels."""

    def __init__(self, channels: int, out: int, method: str) -> None:
        super().__init__()
        self.Conv, self.method = nn.Conv2d(channels, out, 1), method

    def forward(self, image: Tensor, h: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C', H, W) -> (B, C' or 2 C', H, W)."""
        return torch.cat([self.Conv(image), h], dim=1) if self.method == "cat" else self.Conv(image) + h


class NIN(nn.Module):
    """A matrix on the channels of each pixel."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(channels, out) / channels**0.5)
        self.b = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C', N)."""
        return self.W.T @ x + self.b[:, None]


class Attention(nn.Module):
    """Self-attention of one head over all pixels."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.GroupNorm_0 = norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        h = self.GroupNorm_0(x).flatten(2)
        q, k, v = (nin(h)[:, None] for nin in (self.NIN_0, self.NIN_1, self.NIN_2))
        return (x + self.NIN_3(attend(q, k, v)[:, 0]).view_as(x)) * self.scale


class Block(nn.Module):
    """BigGAN residual block, with resampling of both branches where wanted."""

    def __init__(self, channels: int, out: int, embedding: int, scale: float, resample: Resample | None = None) -> None:
        super().__init__()
        self.scale, self.resample = scale, resample
        self.GroupNorm_0 = norm(channels)
        self.Conv_0 = nn.Conv2d(channels, out, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, out)
        self.GroupNorm_1 = norm(out)
        self.Conv_1 = nn.Conv2d(out, out, 3, padding=1)
        if channels != out or resample is not None:
            self.Conv_2 = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) and (B, E) -> (B, C', H, W), or half or twice the size; the embedding is activated."""
        h = F.silu(self.GroupNorm_0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.Conv_0(h) + self.Dense_0(embedding)[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h)))
        return (h + (self.Conv_2(x) if hasattr(self, "Conv_2") else x)) * self.scale


class Fourier(Precise):
    """Random frequencies for the label, drawn once in training."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(16 * torch.randn(size), requires_grad=False)

    def forward(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of 2 pi label W, each (B, size)."""
        phase = label[:, None].float() * self.W * 2 * math.pi
        return phase.cos(), phase.sin()


class NCSNpp(Network):
    """NCSN++ (fourier, fir, label sigma) or DDPM++ (positional, no fir, label 999 t).

    Args:
        in_channels: of the image.
        nf: base width.
        channels: width of each resolution level.
        num_res_blocks: residual blocks per level on the way down, and one more on the way up.
        attention: downsampling factors (1, 2, 4, ...) that have attention, besides the middle.
        embedding_type: of the label: "fourier", of its logarithm, or "positional".
        progressive_input: "none", "input_skip" or "residual": how the downsampled image enters again.
        progressive: "none" or "output_skip": whether each level adds to the output.
        progressive_combine: "sum" or "cat", for "input_skip".
        fir: resampling by the taps 1 3 3 1; else by 2 x 2 means and repetition.
        skip_rescale: sums of residual branches are divided by sqrt(2).
        scale_by_sigma: the output is divided by the label, which is sigma.
        centered: images come in [-1, 1]; else they come in [0, 1] and the network centres them.
    """

    adaptable = (Block, Attention)

    def __init__(
        self,
        in_channels: int,
        nf: int,
        channels: Sequence[int],
        num_res_blocks: int,
        attention: Sequence[int] = (),
        embedding_type: str = "fourier",
        progressive_input: str = "none",
        progressive: str = "none",
        progressive_combine: str = "sum",
        fir: bool = True,
        skip_rescale: bool = True,
        scale_by_sigma: bool = True,
        centered: bool = False,
    ) -> None:
        super().__init__()
        self.config = {
            "in_channels": in_channels,
            "nf": nf,
            "channels": tuple(channels),
            "num_res_blocks": num_res_blocks,
            "attention": tuple(attention),
            "embedding_type": embedding_type,
            "progressive_input": progressive_input,
            "progressive": progressive,
            "progressive_combine": progressive_combine,
            "fir": fir,
            "skip_rescale": skip_rescale,
            "scale_by_sigma": scale_by_sigma,
            "centered": centered,
        }
        self.multiple_of = 2 ** (len(channels) - 1)
        self.nf, self.levels, self.blocks, self.attention = nf, len(channels), num_res_blocks, tuple(attention)
        self.progressive, self.progressive_input, self.combine = progressive, progressive_input, progressive_combine
        self.scale_by_sigma, self.centered = scale_by_sigma, centered
        self.taps, self.scale = ((1, 3, 3, 1) if fir else (1, 1)), (math.sqrt(0.5) if skip_rescale else 1.0)
        fourier = embedding_type == "fourier"
        modules: list[nn.Module] = [Fourier(nf)] if fourier else []
        modules += [nn.Linear(2 * nf if fourier else nf, 4 * nf), nn.Linear(4 * nf, 4 * nf)]
        widths = self._encoder(modules, in_channels, channels)
        c = widths[-1]
        modules += [self._block(c, c), Attention(c, self.scale), self._block(c, c)]
        self._decoder(modules, in_channels, channels, widths)
        self.all_modules = nn.ModuleList(modules)

    def _block(self, channels: int, out: int, way: str = "") -> Block:
        return Block(channels, out, 4 * self.nf, self.scale, Resample(way, self.taps) if way else None)

    def _encoder(self, modules: list[nn.Module], image: int, channels: Sequence[int]) -> list[int]:
        """Append the way down; returns the widths of the skip connections."""
        c = self.nf
        modules.append(nn.Conv2d(image, c, 3, padding=1))
        widths, pyramid = [c], image
        for level, out in enumerate(channels):
            for _ in range(self.blocks):
                modules.append(self._block(c, out))
                c = out
                modules += [Attention(c, self.scale)] if 2**level in self.attention else []
                widths.append(c)
            if level + 1 == self.levels:
                break
            modules.append(self._block(c, c, "down"))
            if self.progressive_input == "input_skip":
                modules += [Resample("down", self.taps), Combine(pyramid, c, self.combine)]
                c = 2 * c if self.combine == "cat" else c
            elif self.progressive_input == "residual":
                modules.append(FirConv(pyramid, c, self.taps))
                pyramid = c
            widths.append(c)
        return widths

    def _decoder(self, modules: list[nn.Module], image: int, channels: Sequence[int], widths: list[int]) -> None:
        c = widths[-1]
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(self.blocks + 1):
                modules.append(self._block(c + widths.pop(), out))
                c = out
            modules += [Attention(c, self.scale)] if 2**level in self.attention else []
            if self.progressive == "output_skip":
                modules += [Resample("up", self.taps)] if level + 1 < self.levels else []
                modules += [norm(c), nn.Conv2d(c, image, 3, padding=1)]
            if level > 0:
                modules.append(self._block(c, c, "up"))
        if self.progressive == "none":
            modules += [norm(c), nn.Conv2d(c, image, 3, padding=1)]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) and a noise label (B,) to (B, C, H, W)."""
        layers = iter(self.all_modules)
        if self.config["embedding_type"] == "fourier":
            cos, sin = next(layers)(label.log())
        else:
            cos, sin = sinusoid(label, self.nf, endpoint=True)
        embedding = next(layers)(torch.cat([sin, cos], dim=1).to(x.dtype))
        embedding = F.silu(next(layers)(F.silu(embedding)))
        skips = self._down(layers, x if self.centered else 2 * x - 1, embedding)
        h = next(layers)(skips[-1], embedding)
        h = next(layers)(h)
        h = next(layers)(h, embedding)
        out = self._up(layers, h, skips, embedding)
        return out / label.to(out.dtype)[:, None, None, None] if self.scale_by_sigma else out

    def _down(self, layers: Iterator[nn.Module], x: Tensor, embedding: Tensor) -> list[Tensor]:
        pyramid, skips = x, [next(layers)(x)]
        for level in range(self.levels):
            for _ in range(self.blocks):
                h = next(layers)(skips[-1], embedding)
                skips.append(next(layers)(h) if 2**level in self.attention else h)
            if level + 1 == self.levels:
                break
            h = next(layers)(skips[-1], embedding)
            if self.progressive_input == "input_skip":
                pyramid = next(layers)(pyramid)
                h = next(layers)(pyramid, h)
            elif self.progressive_input == "residual":
                h = pyramid = (next(layers)(pyramid) + h) * self.scale
            skips.append(h)
        return skips

    def _up(self, layers: Iterator[nn.Module], h: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        image: Tensor | None = None
        for level in reversed(range(self.levels)):
            for _ in range(self.blocks + 1):
                h = next(layers)(torch.cat([h, skips.pop()], dim=1), embedding)
            h = next(layers)(h) if 2**level in self.attention else h
            if self.progressive == "output_skip":
                image = None if image is None else next(layers)(image)
                shown = _show(layers, h)
                image = shown if image is None else image + shown
            h = next(layers)(h, embedding) if level > 0 else h
        return _show(layers, h) if image is None else image


def _show(layers: Iterator[nn.Module], h: Tensor) -> Tensor:
    """Normalise, activate, and convolve to image channels."""
    h = F.silu(next(layers)(h))
    return next(layers)(h)
