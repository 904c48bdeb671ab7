"""Noise ladders: (steps, sigma_min, sigma_max) -> descending sigmas that end in 0."""

from __future__ import annotations

import torch
from torch import Tensor


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """EDM's ladder (Karras et al. 2022, Eq. 5), (steps + 1,) float64, from sigma_max to sigma_min, then 0."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


def ddpm(steps: int, train_steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 2e-2) -> Tensor:
    """Strided ladder of DDPM's linear betas, (steps + 1,) float64: indices 0, stride, 2 stride, ... then 0."""
    betas = torch.linspace(beta_min, beta_max, train_steps, dtype=torch.float64)
    abar = torch.cumprod(1 - betas, 0)[:: train_steps // steps][:steps].flip(0)
    return torch.cat([((1 - abar) / abar).sqrt(), torch.zeros(1, dtype=torch.float64)])
