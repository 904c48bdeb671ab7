"""Samplers: walks down a noise ladder with any denoiser, of the prior or of the posterior.

Each takes the clean estimate x0* and the noise estimate e of a level and goes to the next by the one transition. On
equal levels the deterministic DDIM, Euler steps of EDM's and of a flow's equation and alpha-blending are the same
numbers; they differ in the ladder alone (`schedules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.rng import Rng
from invdiff.solvers.base import Iterate
from invdiff.transition import transition


class Estimate(NamedTuple):
    """Of a state at one level: the clean image x0* and the noise e, (B, *shape); e is the sampler's to overwrite."""

    x0: Tensor
    e: Tensor


Level = tuple[int, float, float]
Denoiser = Callable[[Tensor, int, float, float], Estimate]
Share = Callable[[float, float], float]


def ddim(denoise: Denoiser, levels: Iterable[Level], start: Iterate, rng: Rng, *, tau: Share) -> Iterator[Iterate]:
    """DDIM (Song et al., ICLR 2021): tau = 0 is deterministic, tau = 1 - s1^2 / s0^2 DDPM's ancestral step.

    Args:
        denoise: (x, step, sigma, sigma_next) -> Estimate.
        levels: step number, noise level and the next one, descending to 0.
        start: the iterate before these levels, whose state is at the first of them.
        rng: one stream a row.
        tau: (sigma, sigma_next) -> share of fresh noise, most often `transition.fresh_noise`.
    """
    x = start.x
    del start
    for step, s0, s1 in levels:
        x0, e = denoise(x, step, s0, s1)
        x = transition(x0, e, s1, tau(s0, s1), rng.normal("transition", step, x))
        del e
        yield Iterate(step, s0, x, x0)


def dpm2m(denoise: Denoiser, levels: Iterable[Level], start: Iterate, rng: Rng, *, tau: Share) -> Iterator[Iterate]:
    """DPM-Solver++ (2M; Lu et al. 2022): as `ddim`, of second order, at one call a level.

    The clean estimate of the transition is extrapolated from the level before, linearly in log sigma,

        x0* + (x0* - x0*_before) log(s0 / s1) / (2 log(s_before / s0)).

    With tau = 0 these are the paper's numbers; fresh noise comes in as in `ddim`.
    """
    x, before = start.x, (start.sigma, start.denoised) if start.step >= 0 else None
    del start  # of volumes every tensor counts
    for step, s0, s1 in levels:
        x0, e = denoise(x, step, s0, s1)
        ahead = _extrapolated(x0, e, s0, s1, *before) if before and s1 > 0 else x0
        x = transition(ahead, e, s1, tau(s0, s1), rng.normal("transition", step, x))
        before = s0, x0
        del e, ahead
        yield Iterate(step, s0, x, x0)


def _extrapolated(x0: Tensor, e: Tensor, s0: float, s1: float, s_before: float, x0_before: Tensor) -> Tensor:
    """The clean estimate ahead; the noise estimate is changed in place, so that the state stays what it was."""
    c = math.log(s0 / s1) / (2 * math.log(s_before / s0))
    change = x0 - x0_before
    e.sub_(change, alpha=c / s0)
    return torch.add(x0, change, alpha=c, out=change)


def heun(denoise: Denoiser, levels: Iterable[Level], start: Iterate, rng: Rng, *, churn: float) -> Iterator[Iterate]:
    """EDM's sampler (Karras et al., NeurIPS 2022, Alg. 2) with S_noise = 1: second order, two calls a level.

    Args:
        denoise, levels, start, rng: as in `ddim`.
        churn: share g of noise added before each level, sigma <- (1 + g) sigma; S_churn / N, at most sqrt(2) - 1.
    """
    x = start.x
    for step, s0, s1 in levels:
        high = s0 * (1 + churn)
        if churn:
            x = x + math.sqrt(high**2 - s0**2) * rng.normal("churn", step, x)
        x0, e = denoise(x, step, high, s1)
        x_next = x0 + s1 * e
        if s1 > 0:
            _, e_next = denoise(x_next, step, s1, s1)
            x_next = x + (s1 - high) * (e + e_next) / 2
        x = x_next
        yield Iterate(step, s0, x, x0)
