"""SongUNet, EDM's form of the DDPM++ and NCSN++ networks (Karras et al. 2022; Song et al. 2021), without classes.

Parameters have the names of the published code, which count levels by image size: `resolution` gives the names, and
is no limit on the images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.networks.base import Network
from invdiff.networks.layers import Precise, attend, fir, fir_down, fir_up, sinusoid


class Conv(nn.Module):
    """Convolution after FIR resampling; `kernel` 0 only resamples. `fused` filters last, and pads only once."""

    resample_filter: Tensor

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        resample: str = "",
        taps: Sequence[int] = (1, 1),
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.resample, self.fused = resample, fused
        self.weight = (
            nn.Parameter(torch.randn(out, channels, kernel, kernel) / (channels * kernel**2) ** 0.5) if kernel else None
        )
        self.bias = nn.Parameter(torch.zeros(out)) if kernel else None
        if resample:
            self.register_buffer("resample_filter", fir(taps)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W), or half or twice the size."""
        half = 0 if self.weight is None else self.weight.shape[-1] // 2
        if self.fused and self.weight is not None:
            extra = (self.resample_filter.shape[-1] - 1) // 2
            h = F.conv2d(x, self.weight, padding=half + extra)
            return fir_down(h, self.resample_filter[0, 0], padding=0) + self.bias[:, None, None]  # type: ignore[index]
        if self.resample:
            x = (fir_up if self.resample == "up" else fir_down)(x, self.resample_filter[0, 0])
        return x if self.weight is None else F.conv2d(x, self.weight, self.bias, padding=half)


def norm(channels: int, eps: float) -> nn.GroupNorm:
    """Group norm of at most 32 groups, of at least 4 channels."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps=eps)


class Block(nn.Module):
    """EDM's residual block, with resampling and attention where wanted.

    Args:
        channels, out, embedding: sizes of input, output and label embedding.
        resample: "", "up" or "down".
        heads: of the attention; 0 for none.
        skip_scale: factor on each sum of a residual branch.
        eps: of the normalisations.
        taps: resampling filter.
        resample_proj: whether a resampled skip connection has weights.
        adaptive_scale: the label scales and shifts, instead of being added.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        embedding: int,
        resample: str = "",
        heads: int = 0,
        *,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        taps: Sequence[int] = (1, 1),
        resample_proj: bool = False,
        adaptive_scale: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.heads, self.skip_scale, self.adaptive_scale = channels, heads, skip_scale, adaptive_scale
        self.norm0 = norm(channels, eps)
        self.conv0 = Conv(channels, out, 3, resample, taps)
        self.affine = nn.Linear(embedding, 2 * out if adaptive_scale else out)
        self.norm1 = norm(out, eps)
        self.conv1 = Conv(out, out, 3)
        kernel = 1 if resample_proj or out != channels else 0
        self.skip = Conv(channels, out, kernel, resample, taps) if resample or out != channels else None
        if heads:
            self.norm2 = norm(out, eps)
            self.qkv = Conv(out, 3 * out, 1)
            self.proj = Conv(out, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) and (B, E) -> (B, C', H, W), or half or twice the size."""
        h = self.conv0(F.silu(self.norm0(x)))
        e = self.affine(embedding)[:, :, None, None]
        if self.adaptive_scale:
            scale, shift = e.chunk(2, dim=1)
            h = F.silu(self.norm1(h) * (1 + scale) + shift)
        else:
            h = F.silu(self.norm1(h + e))
        h = (self.conv1(h) + (x if self.skip is None else self.skip(x))) * self.skip_scale
        if self.heads:
            q, k, v = self.qkv(self.norm2(h)).flatten(2).unflatten(1, (self.heads, -1, 3)).unbind(3)
            h = (self.proj(attend(q, k, v).reshape(h.shape)) + h) * self.skip_scale
        return h


class SongUNet(Network):
    """DDPM++ (positional, standard, taps 1 1) or NCSN++ (fourier, residual, taps 1 3 3 1), or a mixture.

    Args:
        in_channels, out_channels: of the image.
        model_channels: base width.
        channels: width of each resolution level.
        num_blocks: residual blocks per level on the way down, and one more on the way up.
        attention: downsampling factors (1, 2, 4, ...) that have attention, besides the middle.
        embedding_type: of the label: "positional" or "fourier".
        channel_mult_noise, channel_mult_emb: size of the label's raw and final embedding, in `model_channels`.
        encoder_type: "standard", "skip" or "residual": how the downsampled image enters again.
        decoder_type: "standard" or "skip": whether each level adds to the output.
        resample_filter: FIR taps.
        resolution: image size that names the levels.
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
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        channel_mult_emb: int = 4,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[int] = (1, 1),
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
            "embedding_type": embedding_type,
            "channel_mult_noise": channel_mult_noise,
            "channel_mult_emb": channel_mult_emb,
            "encoder_type": encoder_type,
            "decoder_type": decoder_type,
            "resample_filter": tuple(resample_filter),
            "resolution": resolution,
        }
        self.multiple_of = 2 ** (len(channels) - 1)
        embedding, noise = model_channels * channel_mult_emb, model_channels * channel_mult_noise
        self.noise = noise
        self.map_noise = Fourier(noise) if embedding_type == "fourier" else nn.Identity()
        self.map_layer0 = nn.Linear(noise, embedding)
        self.map_layer1 = nn.Linear(embedding, embedding)
        self._block = partial(
            Block, embedding=embedding, skip_scale=math.sqrt(0.5), eps=1e-6, taps=tuple(resample_filter),
            resample_proj=True, adaptive_scale=False,
        )  # fmt: skip
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        widths = self._encoder(channels)
        self._decoder(channels, widths)

    def _name(self, level: int, part: str) -> str:
        size = self.config["resolution"] >> level
        return f"{size}x{size}_{part}"

    def _encoder(self, channels: Sequence[int]) -> list[int]:
        """Fill `enc`; returns the widths of the skip connections."""
        image = aux = self.config["in_channels"]
        c, taps, widths = self.config["model_channels"], self.config["resample_filter"], []
        for level, out in enumerate(channels):
            if level == 0:
                self.enc[self._name(0, "conv")] = Conv(image, c, 3)
            else:
                self.enc[self._name(level, "down")] = self._block(c, c, resample="down")
                if self.config["encoder_type"] == "skip":
                    self.enc[self._name(level, "aux_down")] = Conv(image, image, 0, "down", taps)
                    self.enc[self._name(level, "aux_skip")] = Conv(image, c, 1)
                if self.config["encoder_type"] == "residual":
                    self.enc[self._name(level, "aux_residual")] = Conv(aux, c, 3, "down", taps, fused=True)
                    aux = c
            widths.append(c)
            for i in range(self.config["num_blocks"]):
                heads = int(2**level in self.config["attention"])
                self.enc[self._name(level, f"block{i}")] = self._block(c, out, heads=heads)
                c = out
                widths.append(c)
        return widths

    def _decoder(self, channels: Sequence[int], widths: list[int]) -> None:
        c, last, n = channels[-1], len(channels) - 1, self.config["num_blocks"]
        image, skip = self.config["out_channels"], self.config["decoder_type"] == "skip"
        for level, out in reversed(list(enumerate(channels))):
            if level == last:
                self.dec[self._name(level, "in0")] = self._block(c, c, heads=1)
                self.dec[self._name(level, "in1")] = self._block(c, c)
            else:
                self.dec[self._name(level, "up")] = self._block(c, c, resample="up")
            for i in range(n + 1):
                heads = int(i == n and 2**level in self.config["attention"])
                self.dec[self._name(level, f"block{i}")] = self._block(c + widths.pop(), out, heads=heads)
                c = out
            if skip and level < last:
                taps = self.config["resample_filter"]
                self.dec[self._name(level, "aux_up")] = Conv(image, image, 0, "up", taps)
            if skip or level == 0:
                self.dec[self._name(level, "aux_norm")] = norm(c, 1e-6)
                self.dec[self._name(level, "aux_conv")] = Conv(c, image, 3)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) and a noise label (B,) to (B, out_channels, H, W)."""
        if isinstance(self.map_noise, Fourier):
            cos, sin = self.map_noise(label)
        else:
            cos, sin = sinusoid(label, self.noise, endpoint=True)
        embedding = F.silu(self.map_layer0(torch.cat([sin, cos], dim=1).to(x.dtype)))
        embedding = F.silu(self.map_layer1(embedding))
        h, skips = self._down(x, embedding)
        return self._up(h, skips, embedding)

    def _down(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        aux = x
        for name, layer in self.enc.items():
            if name.endswith("aux_down"):
                aux = layer(aux)
            elif name.endswith("aux_skip"):
                x = skips[-1] = x + layer(aux)
            elif name.endswith("aux_residual"):
                x = skips[-1] = aux = (x + layer(aux)) * math.sqrt(0.5)
            else:
                x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
                skips.append(x)
        return x, skips

    def _up(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        image: Tensor | None = None
        for name, layer in self.dec.items():
            if name.endswith("aux_up"):
                image = layer(image)
            elif name.endswith("aux_norm"):
                shown = F.silu(layer(x))
            elif name.endswith("aux_conv"):
                image = layer(shown) if image is None else image + layer(shown)
            else:
                if x.shape[1] != layer.channels:
                    x = torch.cat([x, skips.pop()], dim=1)
                x = layer(x, embedding)
        assert image is not None  # level 0 always has its aux_conv
        return image


class Fourier(Precise):
    """Random frequencies for the label, drawn once in training and stored with the weights."""

    freqs: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 16 * torch.randn(dim // 2))

    def forward(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of 2 pi label freqs, each (B, dim / 2)."""
        phase = label[:, None].float() * (2 * math.pi * self.freqs)
        return phase.cos(), phase.sin()
