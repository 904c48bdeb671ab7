"""ADM, the UNet of "Diffusion Models Beat GANs on Image Synthesis" (Dhariwal and Nichol 2021), without classes.

Parameters have the names of the published code, so that its state dicts load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.networks.base import Network
from invdiff.networks.layers import attend, sinusoid

Resample = Callable[[Tensor], Tensor]


def halve(x: Tensor) -> Tensor:
    """Mean of each 2 x 2 block."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Each pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ResBlock(nn.Module):
    """Residual block; the label either scales and shifts the second normalisation or is added before it."""

    def __init__(
        self, channels: int, out: int, embedding: int, scale_shift: bool, resample: Resample | None = None
    ) -> None:
        super().__init__()
        self.scale_shift, self.resample = scale_shift, resample
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out if scale_shift else out))
        # The identity stands where training has its dropout: names count positions.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(channels, out, 1) if out != channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) and (B, E) -> (B, C', H, W), or half or twice the size with `resample`."""
        h = self.in_layers[:-1](x)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.in_layers[-1](h)
        e = self.emb_layers(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    """Self-attention over all pixels; q, k, v of one head lie together or, in the new order, all q, all k, all v."""

    def __init__(self, channels: int, heads: int, new_order: bool) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) -> the same; the embedding is not used."""
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.new_order:
            q, k, v = qkv.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            q, k, v = qkv.unflatten(1, (self.heads, 3, -1)).unbind(2)
        h = attend(q, k, v).flatten(1, 2)
        return (flat + self.proj_out(h)).view_as(x)


class Down(nn.Module):
    """Half the size, by a strided convolution or a mean."""

    def __init__(self, channels: int, conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.op(x)


class Up(nn.Module):
    """Twice the size, smoothed by a convolution if wanted."""

    def __init__(self, channels: int, conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if conv else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2 H, 2 W)."""
        return self.conv(double(x))


class ADM(Network):
    """ADM, unconditional.

    Args:
        in_channels: image channels.
        out_channels: as many, or twice as many with a learned variance.
        model_channels: size of the label's raw embedding, the published code's base width.
        channels: width of each resolution level.
        num_res_blocks: residual blocks per level on the way down, and one more on the way up.
        attention: downsampling factors (1, 2, 4, ...) that have attention, besides the middle.
        num_heads: attention heads, where `num_head_channels` is -1.
        num_head_channels: channels per head; -1: as `num_heads` says.
        use_scale_shift_norm: the label scales and shifts, instead of being added.
        resblock_updown: residual blocks resample, instead of convolutions.
        conv_resample: without `resblock_updown`, whether resampling has weights.
        use_new_attention_order: order of the channels of q, k and v.
    """

    adaptable = (ResBlock, Attention)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        channels: Sequence[int],
        num_res_blocks: int,
        attention: Sequence[int] = (),
        num_heads: int = 4,
        num_head_channels: int = -1,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = False,
        conv_resample: bool = True,
        use_new_attention_order: bool = False,
    ) -> None:
        super().__init__()
        self.config = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "model_channels": model_channels,
            "channels": tuple(channels),
            "num_res_blocks": num_res_blocks,
            "attention": tuple(attention),
            "num_heads": num_heads,
            "num_head_channels": num_head_channels,
            "use_scale_shift_norm": use_scale_shift_norm,
            "resblock_updown": resblock_updown,
            "conv_resample": conv_resample,
            "use_new_attention_order": use_new_attention_order,
        }
        self.multiple_of = 2 ** (len(channels) - 1)
        self.model_channels = model_channels
        embedding = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self._block = partial(ResBlock, embedding=embedding, scale_shift=use_scale_shift_norm)
        self.input_blocks, self.output_blocks = nn.ModuleList(), nn.ModuleList()
        widths = self._encoder(channels)
        c = channels[-1]
        self.middle_block = nn.ModuleList([self._block(c, c), self._attention(c), self._block(c, c)])
        self._decoder(channels, widths)
        self.out = nn.Sequential(
            nn.GroupNorm(32, channels[0]), nn.SiLU(), nn.Conv2d(channels[0], out_channels, 3, padding=1)
        )

    def _attention(self, c: int) -> Attention:
        per_head = self.config["num_head_channels"]
        heads = self.config["num_heads"] if per_head == -1 else c // per_head
        if heads < 1 or c % heads or (per_head != -1 and c % per_head):
            raise ValueError(f"{c} channels do not divide into {heads} heads")
        return Attention(c, heads, self.config["use_new_attention_order"])

    def _stage(self, c: int, out: int, level: int) -> nn.ModuleList:
        attends = 2**level in self.config["attention"]
        return nn.ModuleList([self._block(c, out), *([self._attention(out)] if attends else [])])

    def _encoder(self, channels: Sequence[int]) -> list[int]:
        """Fill `input_blocks`; returns the widths of their outputs."""
        c = channels[0]
        self.input_blocks.append(nn.ModuleList([nn.Conv2d(self.config["in_channels"], c, 3, padding=1)]))
        widths = [c]
        for level, out in enumerate(channels):
            for _ in range(self.config["num_res_blocks"]):
                self.input_blocks.append(self._stage(c, out, level))
                c = out
                widths.append(c)
            if level + 1 < len(channels):
                by_block = self.config["resblock_updown"]
                down = self._block(c, c, resample=halve) if by_block else Down(c, self.config["conv_resample"])
                self.input_blocks.append(nn.ModuleList([down]))
                widths.append(c)
        return widths

    def _decoder(self, channels: Sequence[int], widths: list[int]) -> None:
        c = channels[-1]
        for level, out in reversed(list(enumerate(channels))):
            for i in range(self.config["num_res_blocks"] + 1):
                stage = self._stage(c + widths.pop(), out, level)
                c = out
                if level > 0 and i == self.config["num_res_blocks"]:
                    by_block = self.config["resblock_updown"]
                    up = self._block(c, c, resample=double) if by_block else Up(c, self.config["conv_resample"])
                    stage.append(up)
                self.output_blocks.append(stage)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) and the index of the noise level (B,) to (B, out_channels, H, W)."""
        embedding = self.time_embed(torch.cat(sinusoid(label, self.model_channels), dim=1).to(x.dtype))
        h = self.input_blocks[0][0](x)  # type: ignore[index]
        skips = [h]
        for stage in self.input_blocks[1:]:
            h = _run(stage, h, embedding)
            skips.append(h)
        h = _run(self.middle_block, h, embedding)
        for stage in self.output_blocks:
            h = _run(stage, torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(h)


def _run(stage: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for layer in stage:  # type: ignore[attr-defined]
        h = layer(h, embedding)
    return h
