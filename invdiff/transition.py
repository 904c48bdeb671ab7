"""From one noise level to the next: the single step that DDPM, DDIM, DiffPIR, DDNM, DDS and flows share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Tau = Literal["consistent", "constant"]


def transition(x0: Tensor, e: Tensor, sigma_next: float, tau: float, xi: Tensor) -> Tensor:
    """x0 + sigma_next (sqrt(1 - tau) e + sqrt(tau) xi).

    Args:
        x0: clean estimate, (B, *).
        e: noise estimate at the current level, (B, *); overwritten by the result, for of volumes every tensor counts.
        sigma_next: next noise level; 0 returns x0.
        tau: share of fresh noise in [0, 1]; 0 is DDIM's deterministic step.
        xi: fresh standard normal noise, (B, *).
    """
    return torch.add(x0, e, alpha=sigma_next * (1 - tau) ** 0.5, out=e).add_(xi, alpha=sigma_next * tau**0.5)


def ancestral(x0: Tensor, x: Tensor, sigma: float, sigma_next: float, xi: Tensor) -> Tensor:
    """DDPM's step from the state x: the transition with e = (x - x0) / sigma and the consistent tau, in two passes.

    x0 + r^2 (x - x0) + sigma_next sqrt(1 - r^2) xi with r = sigma_next / sigma.
    """
    r2 = (sigma_next / sigma) ** 2
    return x0.lerp(x, r2).add_(xi, alpha=sigma_next * (1 - r2) ** 0.5)


def fresh_noise(mode: Tau, zeta: float, sigma: float, sigma_next: float) -> float:
    """The share tau of fresh noise in one step.

    `consistent` is zeta (1 - sigma_next^2 / sigma^2), which vanishes with the step: zeta = 1 is DDPM's ancestral step
    and zeta = eta^2 is DDIM's eta (Song et al. 2021, Eq. 16). `constant` is zeta at every step, as DiffPIR, DDNM and
    DDS publish it; it samples a too narrow law, by the factor (1 + sqrt(1 - zeta)) / 2 in variance.
    """
    return zeta * (1 - (sigma_next / sigma) ** 2) if mode == "consistent" else zeta
