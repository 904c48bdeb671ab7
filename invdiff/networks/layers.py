"""What the architectures of other code bases have in common: label embeddings, attention, FIR resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid(label: Tensor, dim: int, *, endpoint: bool = False) -> tuple[Tensor, Tensor]:
    """Cosines and sines of a label (B,) at dim / 2 frequencies from 1 down to 1e-4, each (B, dim / 2), float32.

    Args:
        label: noise labels, (B,).
        dim: even size of the embedding.
        endpoint: whether the last frequency is 1e-4 itself (Song et al. 2021) or the next would be (Ho et al. 2020).
    """
    half = dim // 2
    # float32 and this order of operations, as in the originals: labels reach 999, where a frequency's last bit shows.
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=label.device)
    phase = label[:, None].float() * torch.exp(exponent / (half - 1 if endpoint else half))
    return phase.cos(), phase.sin()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over N positions; q, k, v and the result are (B, heads, C, N)."""
    return F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT


def fir(kernel: Sequence[float]) -> Tensor:
    """The separable resampling filter of StyleGAN2, (K, K), of sum 1; (1, 1) is a box: mean pooling, or repetition."""
    k = torch.tensor(kernel, dtype=torch.float32)
    return torch.outer(k, k) / k.sum() ** 2


def fir_down(x: Tensor, kernel: Tensor, padding: int | None = None) -> Tensor:
    """Filter with `kernel` (K, K), then keep every other pixel: (B, C, H, W) -> (B, C, H / 2, W / 2)."""
    weight = kernel.to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(x, weight, stride=2, padding=_half(kernel) if padding is None else padding, groups=x.shape[1])


def fir_up(x: Tensor, kernel: Tensor) -> Tensor:
    """Insert zeros between pixels, then filter; the mean is kept: (B, C, H, W) -> (B, C, 2 H, 2 W)."""
    weight = 4 * kernel.to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return F.conv_transpose2d(x, weight, stride=2, padding=_half(kernel), groups=x.shape[1])


def _half(kernel: Tensor) -> int:
    return (kernel.shape[-1] - 1) // 2


class Precise(nn.Module):
    """Keeps its own tensors in float32 when the network goes to bfloat16, which would turn phases by a radian."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in self.state_dict(keep_vars=True).items():
            tensor.data = kept[name].to(tensor.device)
        return self
