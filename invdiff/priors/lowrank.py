"""Low-rank changes of a network's weights (LoRA; Hu et al., ICLR 2022): W + B A, B zero at first.

A change of the weight is the low-rank path beside the layer that papers draw: for a convolution A is one with the same
kernel to r channels, B one of 1 x 1 back. As a weight it serves every kind of layer, and a call takes 3 per cent more.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from invdiff.errors import ConfigError, PriorError
from invdiff.networks import Network
from invdiff.rng import generator

PREFIX = "base_model.model."  # of keys as peft has them


class LowRank(nn.Module):
    """W -> W + B A for a weight (out, *rest), A (r, *rest) and B (out, r, 1, ...), in float32."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.zeros(rank, *weight.shape[1:]))
        self.B = nn.Parameter(torch.zeros(weight.shape[0], rank, *[1] * (weight.ndim - 2)))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight, of the same shape and dtype."""
        change = self.B.flatten(1) @ self.A.flatten(1)
        return weight + change.view(weight.shape).to(weight.dtype)


def adaptable(net: Network) -> dict[str, tuple[nn.Module, str]]:
    """The layers that can change, by name, with the name of their weight: those in residual and attention blocks.

    Raises:
        PriorError: there are none.
    """
    blocks = {n: m for n, m in net.named_modules() if isinstance(m, net.adaptable)} if net.adaptable else {}
    layers = {}
    for name, block in blocks.items():
        for inner, layer in block.named_modules(prefix=name):
            for weight, value in layer.named_parameters(recurse=False):
                if value.ndim > 1:
                    layers[inner] = (layer, weight)
    if not layers:
        raise PriorError(f"{type(net).__name__} has no residual or attention blocks to adapt; choose another prior")
    return layers


def with_lowrank(net: Network, rank: int) -> tuple[Network, nn.ModuleDict]:
    """A network that shares all weights with `net`, and its low-rank changes by the name of their layer.

    Raises:
        ConfigError: a rank above the smaller side of a layer.
        PriorError: nothing to adapt.
    """
    twin = deepcopy(net, {id(t): t for t in chain(net.parameters(), net.buffers())})
    changes = nn.ModuleDict()
    for name, (layer, weight) in adaptable(twin).items():
        W = getattr(layer, weight)
        if rank > min(W.shape[:2]):
            raise ConfigError(f"rank {rank} is more than the {min(W.shape[:2])} channels of layer {name}; lower it")
        change = LowRank(W, rank).to(W.device)
        parametrize.register_parametrization(layer, weight, change, unsafe=True)  # safe: it keeps shape and dtype
        changes[name.replace(".", "/")] = change
    return twin, changes


def reset(changes: nn.ModuleDict, seed: int) -> None:
    """A ~ N(0, 1 / r^2), B = 0: the network is the one it was."""
    with torch.no_grad():
        for name, change in changes.items():
            A = torch.randn(change.A.shape, generator=generator(seed, "lowrank", name)) / len(change.A)  # type: ignore[arg-type]
            change.A.copy_(A)  # type: ignore[operator]
            change.B.zero_()  # type: ignore[operator]


def to_peft(changes: nn.ModuleDict) -> dict[str, Tensor]:
    """Keys and shapes as peft's adapter files have them, with lora_alpha = r."""
    out = {}
    for name, change in changes.items():
        key = PREFIX + name.replace("/", ".")
        out[f"{key}.lora_A.weight"] = change.A.detach().cpu().contiguous()  # type: ignore[operator]
        out[f"{key}.lora_B.weight"] = change.B.detach().cpu().contiguous()  # type: ignore[operator]
    return out


def from_peft(changes: nn.ModuleDict, tensors: dict[str, Tensor]) -> None:
    """Fill the changes from what `to_peft` made.

    Raises:
        PriorError: other layers or another rank.
    """
    mine = to_peft(changes)
    if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in tensors.items()}:
        odd = sorted(set(mine) ^ set(tensors)) or [k for k in mine if mine[k].shape != tensors[k].shape]
        raise PriorError(f"the adapted weights are of another network or rank (see {odd[0]}); use the prior they name")
    with torch.no_grad():
        for name, change in changes.items():
            key = PREFIX + name.replace("/", ".")
            change.A.copy_(tensors[f"{key}.lora_A.weight"])  # type: ignore[operator]
            change.B.copy_(tensors[f"{key}.lora_B.weight"])  # type: ignore[operator]
