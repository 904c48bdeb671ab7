"""The Gaussian closure: p(x_0 | x_sigma) is taken for N(D, r^2) with

    r^2 = sd^2 sigma^2 / (sd^2 + sigma^2),

exact where the data are N(m, sd^2) voxel by voxel. sd is the prior's own spread, a number or a field.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.operators.base import LinearOperator
from invdiff.operators.diagonal import Diagonal
from invdiff.priors.base import Prior

ENOUGH = 1e-2  # of the first residual, for conjugate gradients between two network calls: 1e-3 gives the same images
LEAST = 1e-7  # of ||A||^2: below, a division by the noise would leave the null space undetermined


def radius(prior: Prior, sigma: float, data_std: float | None = None) -> Tensor:
    """r at one level: of the prior's std, or of `data_std`; a number, or a field of the shape of an image."""
    sd = prior.std if data_std is None else torch.as_tensor(data_std)
    return sd * sigma / (sd**2 + sigma**2) ** 0.5


def prox(A: LinearOperator, s: float, y: Tensor, x: Tensor, r: Tensor, *, iterations: int) -> Tensor:
    """argmin_u ||y - A u||^2 / s^2 + ||(u - x) / r||^2: the mean of x_0 given y where it is N(x, r^2) before.

    Args:
        A: the operator.
        s: noise of y, >= 0.
        y: measurements, (B, *range.shape).
        x: the mean before, (B, *domain.shape).
        r: `radius`.
        iterations: most CG steps where there is no closed form.
    """
    if r.numel() == 1:
        return towards(A, y, x, s**2 / float(r) ** 2, iterations=iterations)
    AR = A @ Diagonal(A.domain, r)
    return x + r * towards(AR, y - A(x), torch.zeros_like(x), s**2, iterations=iterations)


def towards(A: LinearOperator, y: Tensor, x: Tensor, rho: float, *, iterations: int) -> Tensor:
    """argmin_u ||y - A u||^2 + rho ||u - x||^2, as exactly as it matters between two network calls.

    Args:
        A: the operator.
        y: measurements, (B, *range.shape).
        x: where u is drawn to, (B, *domain.shape).
        rho: how strongly, >= 0.
        iterations: most CG steps where there is no closed form.
    """
    return A.prox(y, x, max(rho, LEAST * A.norm2), iterations=iterations, tolerance=ENOUGH)


def solve_y(A: LinearOperator, s: float, residual: Tensor, r: Tensor, *, iterations: int) -> Tensor:
    """(A r^2 A^H + s^2)^-1 residual, (B, *range.shape); arguments as in `prox`."""
    if r.numel() == 1:
        rho = max(s**2 / float(r) ** 2, LEAST * A.norm2)
        return A.solve_y(residual, rho, iterations=iterations) / float(r) ** 2
    return (A @ Diagonal(A.domain, r)).solve_y(residual, s**2, iterations=iterations)
