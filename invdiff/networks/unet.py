"""A fully convolutional UNet: no attention and no statistics over space, so that one set of weights serves any size.

Every normalisation is over the channels of one pixel. What the network says about a voxel therefore depends on its
receptive field alone: neither on how large the slice is, nor on how much empty air surrounds the head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.networks.base import Network


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel."""
        # In channels_last memory both permutations are views, and torch's fused layer norm does the work.
        h = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-4)
        return h.permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block whose second normalisation is scaled and shifted by the noise embedding (ADM's recipe)."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = ChannelNorm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # every block starts as the identity

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C_in, H, W) and (B, E) -> (B, C_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class UNet(Network):
    """UNet on pixel-unshuffled slices.

    Args:
        in_channels: image channels, 1 for magnitude, 2 for real and imaginary.
        channels: width of each resolution level; multiples of 64 are fastest in bf16.
        blocks: residual blocks per level on the way down and again on the way up.
        patch: side of the pixel block that the stem folds into channels.
    """

    adaptable = (Block,)

    def __init__(
        self, in_channels: int = 1, channels: tuple[int, ...] = (64, 128, 192), blocks: int = 2, patch: int = 2
    ) -> None:
        super().__init__()
        self.config = {"in_channels": in_channels, "channels": tuple(channels), "blocks": blocks, "patch": patch}
        self.multiple_of = patch * 2 ** (len(channels) - 1)
        width = embedding = 4 * channels[0]
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(math.log(0.25), math.log(32), 32)))
        self.embed = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, embedding), nn.SiLU())
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.stem = nn.Conv2d(in_channels * patch**2, channels[0], 3, padding=1)

        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, c in enumerate(channels):
            self.down.append(nn.ModuleList(Block(c, c, embedding) for _ in range(blocks)))
            if level + 1 < len(channels):
                self.shrink.append(nn.Conv2d(c, channels[level + 1], 2, stride=2))
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, c in reversed(list(enumerate(channels))):
            # The first block of a level takes the skip connection in, as extra channels.
            self.up.append(nn.ModuleList(Block(2 * c if i == 0 else c, c, embedding) for i in range(blocks)))
            if level > 0:
                self.grow.append(nn.Conv2d(c, channels[level - 1], 1))
        self.norm = ChannelNorm(channels[0])
        self.head = nn.Conv2d(channels[0], in_channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) and a noise label (B,) to (B, C, H, W); H and W are multiples of `multiple_of`."""
        phase = label[:, None].float() * self.frequencies
        embedding = self.embed(torch.cat([phase.cos(), phase.sin()], dim=1).to(x.dtype))
        h = self.stem(self.unshuffle(x))
        skips = []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedding)
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        for level, blocks in enumerate(self.up):
            h = torch.cat([h, skips.pop()], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedding)
            if level < len(self.grow):
                h = F.interpolate(self.grow[level](h), scale_factor=2.0, mode="nearest")
        return self.shuffle(self.head(F.silu(self.norm(h))))
