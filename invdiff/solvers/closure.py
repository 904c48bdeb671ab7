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
        return A.prox(y, x, _rho(A, s, r), iterations=iterations, tolerance=ENOUGH)
    AR = A @ Diagonal(A.domain, r)
    rho = max(s**2, LEAST * AR.norm2)
    return x + r * AR.prox(y - A(x), torch.zeros_like(x), rho, iterations=iterations, tolerance=ENOUGH)


def solve_y(A: LinearOperator, s: float, residual: Tensor, r: Tensor, *, iterations: int) -> Tensor:
    """(A r^2 A^H + s^2)^-1 residual, (B, *range.shape); arguments as in `prox`."""
    if r.numel() == 1:
        return A.solve_y(residual, _rho(A, s, r), iterations=iterations) / float(r) ** 2
    return (A @ Diagonal(A.domain, r)).solve_y(residual, s**2, iterations=iterations)


def _rho(A: LinearOperator, s: float, r: Tensor) -> float:
    return max(s**2 / float(r) ** 2, LEAST * A.norm2)
