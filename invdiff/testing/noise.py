"""The law of noise models: `sample` draws from what `log_prob` describes."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.noise.base import NoiseModel
from invdiff.rng import Rng


def check_noise_model(noise: NoiseModel, clean: Tensor, draws: int = 20_000, sigmas: float = 4.0) -> None:
    """Score test: the gradient of log_prob in the clean value has mean 0 over samples, within `sigmas` errors.

    Args:
        noise: the model.
        clean: one clean measurement, float64 or complex128, (*).
    """
    batch = clean.expand(draws, *clean.shape).clone().requires_grad_()
    y = noise.sample(batch.detach(), Rng([(seed, 0) for seed in range(draws)]))
    (score,) = torch.autograd.grad(noise.log_prob(y, batch).sum(), batch)
    reals = (torch.view_as_real(score) if score.is_complex() else score).flatten(1)
    z = reals.mean(0) / (reals.std(0) / draws**0.5)
    assert bool((z.abs() < sigmas).all()), (
        f"the score of the likelihood has mean {float(z.abs().max()):.1f} errors off 0"
    )
