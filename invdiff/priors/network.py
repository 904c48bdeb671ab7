"""A trained network as a prior: its own parameterisation in, E[x_0 | x_sigma] out."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.networks import Network
from invdiff.networks.calls import at_any_size, in_rows
from invdiff.priors.base import Prior
from invdiff.priors.parameterisation import adapter
from invdiff.space import Space


class NetworkPrior(Prior):
    """A network bound to one image size; `parameterisation` says what it predicts.

    The state stays in its own precision; only the network runs in `dtype`. Sizes that are no multiple of the
    network's are padded by replication and cut back.

    Args:
        net: what it predicts.
        space: images, (C, H, W).
        mean, std: moments of the training images, in the prior's units; std is EDM's sigma_data.
        parameterisation: what the network predicts (`invdiff.priors.parameterisation`).
        schedule: the noise table of its labels, where the parameterisation has one.
        dtype: precision of the network.
        width: slices per network call; a shorter rest is padded, so that one kernel serves all.

    Raises:
        PriorError: other number of channels or axes than the network was trained for; unknown parameterisation or
            schedule.
    """

    def __init__(
        self,
        net: Network,
        space: Space,
        *,
        mean: float,
        std: float,
        sigma_min: float = 0.002,
        sigma_max: float = 10.0,
        parameterisation: str = "edm",
        schedule: str = "linear",
        dtype: torch.dtype = torch.float32,
        width: int = 8,
    ) -> None:
        super().__init__()
        _check_slices(net, space)
        self.adapter = adapter(parameterisation, schedule)
        self.net = net.to(dtype=dtype, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.space, self.sigma_min, self.sigma_max = space, sigma_min, sigma_max
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.dtype, self.width, self.calls = dtype, width, 0

    def on(self, space: Space) -> NetworkPrior:
        """The same network and weights for slices of another size; with a count of calls of its own."""
        _check_slices(self.net, space)
        twin = copy(self)
        twin.space, twin.calls = space, 0
        return twin

    def over(self, net: Network, width: int | None = None) -> NetworkPrior:
        """The same prior around another network, which is taken as it is; with a count of calls of its own."""
        twin = copy(self)
        twin._modules = {**self._modules, "net": net}
        twin.width, twin.calls = width or self.width, 0
        return twin

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x_sigma = x], in network calls of `width` rows."""
        return in_rows(self._denoise, self.width, x, sigma)

    def _denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        return self.adapter(self._call, x, sigma, self.std)

    def _call(self, x: Tensor, label: Tensor) -> Tensor:
        return at_any_size(self.net, x, label, self.dtype)[:, : x.shape[1]]


def _check_slices(net: Network, space: Space) -> None:
    channels = net.config["in_channels"]
    if len(space.shape) == 4:
        raise PriorError(
            f"the prior knows slices ({channels}, H, W), not volumes, {space}; join them by SlicewisePrior or "
            "PerpendicularPrior"
        )
    if len(space.shape) != 3 or space.shape[0] != channels:
        raise PriorError(
            f"the prior was trained on {channels}-channel slices ({channels}, H, W), not on {space}; complex MRI "
            "needs 2 channels, all else 1: choose another prior, or `simulate mri --image real`"
        )


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where that is faster: CPUs with AMX, CUDA >= 8.0. Else it is float32.

    AVX-512 bf16 without AMX is no reason: there torch's bfloat16 convolutions take 1.6 times as long as float32.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32
