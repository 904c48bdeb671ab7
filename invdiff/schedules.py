"""Noise ladders: (steps, sigma_min, sigma_max) -> descending sigmas that end in 0."""

from __future__ import annotations

import torch
from torch import Tensor


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """EDM's ladder (Karras et al. 2022, Eq. 5), (steps + 1,) float64, from sigma_max to sigma_min, then 0."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _to_zero((high + ramp * (low - high)) ** rho)


def ddpm(steps: int, train_steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 2e-2) -> Tensor:
    """Ladder of DDPM's linear betas, (steps + 1,) float64: indices 0, stride, 2 stride, ..., rounded down, then 0."""
    strided = torch.arange(steps) * train_steps // steps
    return _to_zero(_trained(train_steps, beta_min, beta_max)[strided].flip(0))


def quad(steps: int, train_steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 2e-2) -> Tensor:
    """DiffPIR's ladder: DDPM's levels, the k-th at index sqrt(k) from the noisy end: dense near the data."""
    sequence = torch.linspace(0, train_steps**2, steps, dtype=torch.float64).sqrt().floor().long()
    sequence[-1] -= 1
    return _to_zero(_trained(train_steps, beta_min, beta_max).flip(0)[sequence])


def flow(steps: int, sigma_max: float, shift: float = 1.0) -> Tensor:
    """Equal steps of a flow's time t = sigma / (1 + sigma) down to 0, (steps + 1,) float64.

    The same steps as alpha-blending (IADB), alpha = 1 - t. At t = 1 sigma is infinite: the ladder starts at sigma_max.

    Args:
        steps: number of levels above 0.
        sigma_max: the first level; large, or the start is not noise.
        shift: s in t <- s t / (1 + (s - 1) t); above 1 more steps are spent at high noise (Esser et al. 2024).
    """
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    t = shift * t / (1 + (shift - 1) * t) * (sigma_max / (1 + sigma_max))
    return t / (1 - t)


def _trained(train_steps: int, beta_min: float, beta_max: float) -> Tensor:
    """DDPM's levels, ascending."""
    betas = torch.linspace(beta_min, beta_max, train_steps, dtype=torch.float64)
    abar = torch.cumprod(1 - betas, 0)
    return ((1 - abar) / abar).sqrt()


def _to_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
