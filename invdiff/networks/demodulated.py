"""Complex images: the network sees them with their smooth phase taken out, and the phase is put back.

A denoiser of images with any smooth phase commutes with turning that phase. Building this in, instead of learning it
from examples, leaves the network an almost real image: the magnitude's structure in the first channel, little in the
second.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from invdiff.networks.base import Network
from invdiff.networks.unet import UNet


class Demodulated(Network):
    """A UNet of complex images, two channels each, between two opposite rotations by the phase of the first.

    The phase is that of the image averaged over cells of 8 x 8 pixels and their neighbours (a kernel of about 9 pixels
    standard deviation): wide enough to stand above the noise, narrow against the phase of a scan.

    Args:
        channels, blocks, patch: of the UNet.
        cell: side of a cell in pixels.
    """

    adaptable = UNet.adaptable

    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 192),
        blocks: int = 2,
        patch: int = 2,
        cell: int = 8,
        in_channels: int = 2,
    ) -> None:
        super().__init__()
        self.net = UNet(in_channels, channels, blocks, patch)
        self.cell = cell
        self.config = self.net.config | {"cell": cell}
        self.multiple_of = max(cell, self.net.multiple_of)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, 2n, H, W) and a label (B,) to (B, 2n, H, W); equivariant under x -> exp(i a) x."""
        c, s = self.direction(x[:, :2]).unbind(1)
        turned = rotate(x, c, -s)
        return rotate(self.net(turned.contiguous(memory_format=torch.channels_last), label), c, s)

    def direction(self, x: Tensor) -> Tensor:
        """Cosine and sine of the smooth phase, (B, 2, H, W)."""
        coarse = F.avg_pool2d(x.float(), self.cell)
        for axis in (-2, -1):
            for _ in range(2):  # twice the binomial kernel 1 2 1: a Gaussian of one cell
                before, after = _shift(coarse, axis, 1), _shift(coarse, axis, -1)
                coarse = (before + 2 * coarse + after) / 4
        mean = F.interpolate(coarse, scale_factor=float(self.cell), mode="bilinear")
        return (mean / (mean.square().sum(1, keepdim=True) + 1e-8).sqrt()).to(x.dtype)


def rotate(x: Tensor, c: Tensor, s: Tensor) -> Tensor:
    """Each complex image of (B, 2n, H, W) times c + i s, both (B, H, W)."""
    re, im = x.unflatten(1, (-1, 2)).unbind(2)
    c, s = c[:, None], s[:, None]
    return torch.stack([re * c - im * s, re * s + im * c], dim=2).flatten(1, 2)


def _shift(x: Tensor, axis: int, by: int) -> Tensor:
    """Neighbours along an axis; zero beyond the border."""
    n = x.shape[axis]
    pad = [0, 0, 0, 0]
    pad[2 * (-axis - 1) + (0 if by > 0 else 1)] = 1
    return F.pad(x, pad).narrow(axis, 0 if by > 0 else 1, n)
