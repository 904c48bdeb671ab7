"""Bridges between a clean image x0 and a degraded one x1, and the way back.

    x_t = (1 - a_t) x0 + a_t x1 + s_t z                     forward, for training
    x_s = (1 - k) x0 + k x_t + q z,   k = k(s, t)           backward, x0 the network's estimate
    x0  = x_t + c_t F(x_t, t)                         what the network predicts; the paper's -F

I2SB (Liu et al., ICML 2023) with g_t^2 = sum_{i <= t} beta_i and gb_t^2 = sum_{i >= t} beta_i:

    a = g^2 / (g^2 + gb^2),   s^2 = g^2 gb^2 / (g^2 + gb^2),   k = g_s^2 / g_t^2,   q^2 = g_s^2 (g_t^2 - g_s^2) / g_t^2

c = g, and s = q = 0 in its deterministic form (OT-ODE). The published betas are for images in [-1, 1]; `spread` scales
s, q and c: 0.5 for images in [0, 1]. InDI (Delbracio and Milanfar, TMLR 2023): a = c = t, k = s / t and no noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 1000


@dataclass(frozen=True)
class Process:
    """A bridge of N times, 0 near the clean image and N - 1 at the degraded one.

    Attributes:
        a: weight of x1, (N,) float64, ascending.
        s: standard deviation of the noise, (N,) float64.
        c: scale of the prediction, (N,) float64.
        v: what shrinks on the way back, (N,) float64: k = v_s / v_t.
        stochastic: whether noise is added on the way back.
    """

    a: Tensor
    s: Tensor
    c: Tensor
    v: Tensor
    stochastic: bool

    def __len__(self) -> int:
        return len(self.a)

    def back(self, t: int, s: int) -> tuple[float, float]:
        """k and q of a move from time t to s < t."""
        vt, vs = float(self.v[t]), float(self.v[s])
        return vs / vt, (vs * (vt - vs) / vt) ** 0.5 if self.stochastic else 0.0


def i2sb(beta_max: float = 0.3, *, ot_ode: bool = False, spread: float = 1.0) -> Process:
    """That of I2SB: betas rise to the middle and fall again; `ot_ode` is its deterministic form."""
    half = torch.linspace(1e-2, (beta_max / STEPS) ** 0.5, STEPS, dtype=torch.float64)[: STEPS // 2] ** 2
    beta = torch.cat([half, half.flip(0)])
    g2, gb2 = beta.cumsum(0), beta.flip(0).cumsum(0).flip(0)
    s = torch.zeros_like(g2) if ot_ode else (g2 * gb2 / (g2 + gb2)).sqrt()
    return Process(g2 / (g2 + gb2), spread * s, spread * g2.sqrt(), spread**2 * g2, not ot_ode)


def indi() -> Process:
    """The straight line of InDI."""
    t = torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS
    return Process(t, torch.zeros_like(t), t, t, stochastic=False)


def process(name: str, beta_max: float, spread: float) -> Process:
    """The process called i2sb, ot-ode or indi, which knows no noise."""
    return indi() if name == "indi" else i2sb(beta_max, ot_ode=name == "ot-ode", spread=spread)
