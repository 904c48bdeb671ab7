"""DhariwalUNet, EDM's form of ADM (Karras et al. 2022), without classes; parameters have the published names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.networks.base import Network
from invdiff.networks.layers import sinusoid
from invdiff.networks.songunet import Block, Conv, norm


class DhariwalUNet(Network):
    """ADM in EDM's words: adaptive scale, resampling in residual blocks, 64 channels per attention head.

    Args:
        in_channels, out_channels: of the image.
        model_channels: base width, of the label's raw embedding.
        channels: width of each resolution level.
        num_blocks: residual blocks per level on the way down, and one more on the way up.
        attention: downsampling factors (1, 2, 4, ...) that have attention, besides the middle.
        channel_mult_emb: size of the label's final embedding, in `model_channels`.
        resolution: image size that names the levels; no limit on the images.
    """

    adaptable = (Block,)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        channels: Sequence[int],
        num_blocks: int,
        attention: Sequence[int] = (),
        channel_mult_emb: int = 4,
        resolution: int = 64,
    ) -> None:
        super().__init__()
        self.config = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "model_channels": model_channels,
            "channels": tuple(channels),
            "num_blocks": num_blocks,
            "attention": tuple(attention),
            "channel_mult_emb": channel_mult_emb,
            "resolution": resolution,
        }
        self.multiple_of = 2 ** (len(channels) - 1)
        self.noise, embedding = model_channels, model_channels * channel_mult_emb
        self.map_layer0 = nn.Linear(model_channels, embedding)
        self.map_layer1 = nn.Linear(embedding, embedding)
        self._block = partial(Block, embedding=embedding)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        widths = self._encoder(channels)
        self._decoder(channels, widths)
        self.out_norm = norm(channels[0], 1e-5)
        self.out_conv = Conv(channels[0], out_channels, 3)

    def _name(self, level: int, part: str) -> str:
        size = self.config["resolution"] >> level
        return f"{size}x{size}_{part}"

    def _heads(self, level: int, c: int) -> int:
        return c // 64 if 2**level in self.config["attention"] else 0

    def _encoder(self, channels: Sequence[int]) -> list[int]:
        """Fill `enc`; returns the widths of the skip connections."""
        c, widths = channels[0], []
        for level, out in enumerate(channels):
            if level == 0:
                self.enc[self._name(0, "conv")] = Conv(self.config["in_channels"], c, 3)
            else:
                self.enc[self._name(level, "down")] = self._block(c, c, resample="down")
            widths.append(c)
            for i in range(self.config["num_blocks"]):
                self.enc[self._name(level, f"block{i}")] = self._block(c, out, heads=self._heads(level, out))
                c = out
                widths.append(c)
        return widths

    def _decoder(self, channels: Sequence[int], widths: list[int]) -> None:
        c = channels[-1]
        for level, out in reversed(list(enumerate(channels))):
            if level == len(channels) - 1:
                self.dec[self._name(level, "in0")] = self._block(c, c, heads=c // 64)
                self.dec[self._name(level, "in1")] = self._block(c, c)
            else:
                self.dec[self._name(level, "up")] = self._block(c, c, resample="up")
            for i in range(self.config["num_blocks"] + 1):
                block = self._block(c + widths.pop(), out, heads=self._heads(level, out))
                self.dec[self._name(level, f"block{i}")] = block
                c = out

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) and a noise label (B,) to (B, out_channels, H, W)."""
        embedding = self.map_layer0(torch.cat(sinusoid(label, self.noise), dim=1).to(x.dtype))
        embedding = F.silu(self.map_layer1(F.silu(embedding)))
        skips = []
        for layer in self.enc.values():
            x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for layer in self.dec.values():
            if x.shape[1] != layer.channels:
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, embedding)
        return self.out_conv(F.silu(self.out_norm(x)))
