"""Calling a network on images of any size and any number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invdiff.linalg import stacked
from invdiff.networks.base import Network


def at_any_size(net: Network, x: Tensor, label: Tensor, dtype: torch.dtype) -> Tensor:
    """net(x, label) in `dtype`; sides that are no multiple of the network's are replicated on and cut back.

    Args:
        net: channels_last.
        x: (B, C, H, W), of any precision, which is that of the answer.
        label: (B,).
        dtype: precision of the network.
    """
    h, w = x.shape[-2:]
    multiple = net.multiple_of
    z = F.pad(x, (0, -w % multiple, 0, -h % multiple), mode="replicate")
    z = z.to(dtype).contiguous(memory_format=torch.channels_last)
    return net(z, label)[..., :h, :w].to(x.dtype)


def _filled(batch: Tensor, width: int) -> list[Tensor]:
    *parts, rest = batch.split(width)  # views: no second volume
    return [*parts, torch.cat([rest, rest[-1:].expand(width - len(rest), *rest.shape[1:])])]


def in_rows(call: Callable[..., Tensor], width: int, *batches: Tensor) -> Tensor:
    """`call` on `width` rows at once; a shorter rest is filled up, so that one kernel serves all and answers alike.

    Where gradients are asked for of more rows than that, each call is made again when its turn comes, so that only one
    holds its activations: as much memory for a volume as for `width` slices, for a third more time.
    """
    count = len(batches[0])
    if count == width:
        return call(*batches)
    filled = (_filled(b, width) for b in batches)
    if torch.is_grad_enabled() and count > width:
        call = partial(checkpoint, call, use_reentrant=False, preserve_rng_state=False)
    parts = (call(*rows) for rows in zip(*filled, strict=True))
    return stacked(parts, -(-count // width) * width)[:count]
