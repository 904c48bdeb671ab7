"""A trained network as a bridge: x0 = x_t + c_t F(x_t, t), or F(x_t, x1, t)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.bridges.base import Bridge
from invdiff.bridges.process import Process
from invdiff.errors import PriorError
from invdiff.networks import Network
from invdiff.networks.calls import at_any_size, in_rows
from invdiff.space import Space


class NetworkBridge(Bridge):
    """A network bound to one image size.

    The state stays in its own precision; only the network runs in `dtype`.

    Args:
        net: predicts (x0 - x_t) / c_t; of twice the channels where it is shown x1.
        space: images, (C, H, W).
        process: the way between both ends.
        conditional: whether it is shown x1 beside the state.
        std: standard deviation of the training images: what the network sees is divided by it.
        dtype: precision of the network.
        width: slices per network call; a shorter rest is padded, so that one kernel serves all.

    Raises:
        PriorError: other number of channels or axes than the network was trained for.
    """

    def __init__(
        self,
        net: Network,
        space: Space,
        process: Process,
        *,
        conditional: bool,
        std: float,
        dtype: torch.dtype = torch.float32,
        width: int = 8,
    ) -> None:
        super().__init__(space, process, conditional=conditional)
        channels = net.config["in_channels"] // (2 if conditional else 1)
        if len(space.shape) != 3 or space.shape[0] != channels:
            raise PriorError(
                f"the bridge was trained on {channels}-channel slices ({channels}, H, W), not on {space}; complex MRI "
                "needs 2 channels, all else 1"
            )
        self.net = net.to(dtype=dtype, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.std, self.dtype, self.width, self.calls = std, dtype, width, 0

    def clean(self, x: Tensor, x1: Tensor, t: int) -> Tensor:
        """E[x0 | x_t = x], in network calls of `width` rows."""
        c = float(self.process.c[t])
        label = torch.full((len(x),), label_of(c), dtype=x.dtype, device=x.device)
        return x + c * in_rows(self._call, self.width, seen(x, x1 if self.conditional else None, self.std), label)

    def _call(self, z: Tensor, label: Tensor) -> Tensor:
        self.calls += 1
        return at_any_size(self.net, z, label, self.dtype)[:, : self.space.shape[0]]


def seen(x: Tensor, x1: Tensor | None, std: float) -> Tensor:
    """What the network sees: the state, and x1 where it is shown, at about unit variance."""
    return (x if x1 is None else torch.cat([x, x1], dim=1)) / std


def label_of(c: float) -> float:
    """The network's label of a time: that of EDM's denoiser at the noise level c, which it is at times near 0."""
    return math.log(c) / 4
