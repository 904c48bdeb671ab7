"""Training of a denoiser: EDM's preconditioning and loss (Karras et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_doc import Doc
from annotated_types import Gt
from torch import Generator, Tensor

from invdiff.networks import Demodulated, Network, UNet
from invdiff.rng import generator
from invdiff.training.loop import Settings, Task


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining(Settings):
    """Settings of the training of a prior."""

    log_sigma_mean: Annotated[float, Doc("Mean of ln sigma, image scaled to [0, 1].")] = -2.2
    log_sigma_std: Annotated[float, Gt(0), Doc("Standard deviation of ln sigma.")] = 1.5


def network(channels: int, settings: Settings) -> Network:
    """Fresh weights from the seed: a UNet for one channel, a demodulated one for real and imaginary part."""
    kind: type[UNet] | type[Demodulated] = UNet if channels == 1 else Demodulated
    with torch.random.fork_rng():
        torch.random.set_rng_state(generator(settings.seed, "weights").get_state())
        return kind(in_channels=channels, channels=(settings.width, 2 * settings.width, 3 * settings.width))


def denoising(settings: DenoiserTraining) -> Task:
    """To take off noise of random levels, log-normal."""

    def task(x0: Tensor, g: Generator, std: float) -> tuple[Tensor, Tensor, Tensor]:
        sigma = torch.exp(settings.log_sigma_mean + settings.log_sigma_std * torch.randn(len(x0), generator=g))
        return edm_task(x0, sigma, torch.randn(x0.shape, generator=g), std)

    return task


def edm_task(x0: Tensor, sigma: Tensor, noise: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """The network F's input, label and unit-variance target; EDM's lambda(sigma) c_out^2 = 1 (Table 1)."""
    s = sigma[:, None, None, None]
    total = torch.sqrt(s**2 + sigma_data**2)
    c_skip, c_out = sigma_data**2 / total**2, s * sigma_data / total
    z = x0 + s * noise
    return z / total, sigma.log() / 4, (x0 - c_skip * z) / c_out
