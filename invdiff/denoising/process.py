"""Di-Fusion's process (Wu et al., ICLR 2025): the latter 300 of 1000 steps of diffusion, from x' to x.

    beta_t = 5e-5 for t < 300, then rising to 1e-2;  abar_t = prod (1 - beta)
    fusion   f = lam1(t) x + lam2(t) x',   lam1 ~ 1/(t+1),  lam1 + lam2 = 1            (paper, Eq. 6)
    Di-      e = the pixels of x - x' less their mean, in a random order
    state    x_t = l f + sqrt(1 - l^2) e,  l^2 between abar_t and abar_{t-1}
    reverse  x_s = c1 F(x_t) + c2 x_t,     c1 + c2 = 1                                  (no noise is added)

The noise of the state is that of the scan, x - x', and so small that x_t is nearly x'. Published code jumps from t to
t - 10 with the coefficients of a single step, c1 + c2 = 0.82 to 0.97: a state of the truth shrinks to 22 % on its way.
Here a jump has the coefficients of the jump.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

STEPS, LATTER, WALK = 1000, 300, 50


def abar() -> Tensor:
    """The share of signal as variance at each t, (1000,) float64."""
    beta = torch.full((STEPS,), 5e-5, dtype=torch.float64)
    beta[LATTER:] = torch.linspace(5e-5, 1e-2, STEPS - LATTER, dtype=torch.float64)
    return (1 - beta).cumprod(0)


ABAR = abar()


def weights(t: int) -> tuple[float, float]:
    """lam1 and lam2 of the fusion at 1 <= t < 300."""
    a, before = float(ABAR[t]), float(ABAR[t - 1])
    beta = 1 - a / before
    return beta * before**0.5 / (1 - a), (1 - beta) ** 0.5 * (1 - before) / (1 - a)


def jump(t: int, s: int) -> tuple[float, float]:
    """c1 and c2 of the step from t to s < t."""
    a, b = float(ABAR[t]), float(ABAR[s])
    r = a / b
    return b**0.5 * (1 - r) / (1 - a), r**0.5 * (1 - b) / (1 - a)


def grid(first: int = LATTER, stride: int = 10) -> list[int]:
    """The steps: in strides of ten down to 50 (run), then one by one (walk)."""
    return [*range(first, WALK - 1, -stride), *range(min(first, WALK) - 1, -1, -1)]


def shuffled(x: Tensor, other: Tensor, g: Generator) -> Tensor:
    """The pixels of x - x' less their mean, each image's in an order of its own; (n, 1, H, W)."""
    difference = (x - other).flatten(1)
    difference = difference - difference.mean(1, keepdim=True)
    order = torch.rand(difference.shape, generator=g).argsort(1)
    return difference.gather(1, order).reshape(x.shape)


def state(x: Tensor, other: Tensor, t: int, level: Tensor, g: Generator, *, fusion: str) -> Tensor:
    """x_t of images (n, 1, H, W) at levels l, (n,).

    Args:
        x: the noisy image; other: x', what shares its signal and not its noise.
        t: the step.
        level: l of each image.
        g: of the order of the pixels.
        fusion: `paper` as its Eq. 6; `code` as released, where x does not enter, so that no noise leaks to the input.
    """
    lam1, lam2 = weights(t) if t < STEPS else (0.0, 1.0)
    f = lam1 * x + lam2 * other if fusion == "paper" else (lam1 + lam2) * other
    l = level[:, None, None, None]  # noqa: E741 - the paper's letter
    return l * f + (1 - l**2).sqrt() * shuffled(x, other, g)


def label(level: Tensor) -> Tensor:
    """What the network is told of the level: ln of the ratio of noise and signal, over 4."""
    return (1 / level**2 - 1).clamp_min(1e-12).log() / 8


def reverse(
    estimate: Callable[[Tensor, int, Tensor], Tensor],
    start: Tensor,
    steps: list[int],
    enough: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Walk down until enough noise is taken off, each image by itself.

    Args:
        estimate: F of states (n, 1, H, W), at t, for the images of these numbers (n,).
        start: the states at the first step.
        steps: t, falling.
        enough: whether estimates (n, 1, H, W) of these images are far enough from the noisy ones, (n,) bool.
    """
    left, x, out = torch.arange(len(start)), start, torch.empty_like(start)
    for t, s in zip(steps, [*steps[1:], None], strict=True):
        clean = estimate(x, t, left)
        done = enough(clean, left) if s is not None else torch.ones(len(left), dtype=torch.bool)
        out[left[done]] = clean[done]
        if s is None or bool(done.all()):
            return out
        c1, c2 = jump(t, s)
        left, x = left[~done], (c1 * clean + c2 * x)[~done]
    return out
