"""The prior that knows everything about itself: N(m, C), with C diagonal in an orthonormal basis."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.linalg import rows
from invdiff.priors.base import Prior
from invdiff.space import Space


def _identity(x: Tensor) -> Tensor:
    return x


class GaussianPrior(Prior):
    """N(m, B diag(c) B^T): denoiser, score and, with a linear operator, the posterior are closed forms.

    Args:
        mean: m, (C, *spatial).
        variance: c > 0, variances of the modes, broadcasts against `mean`.
        analysis: B^T, an orthonormal map on (B, C, *spatial), e.g. a DCT; the identity by default.
        synthesis: B.
        sigma_min, sigma_max: ends of the noise ladder.
    """

    def __init__(
        self,
        mean: Tensor,
        variance: Tensor,
        *,
        analysis: Callable[[Tensor], Tensor] = _identity,
        synthesis: Callable[[Tensor], Tensor] = _identity,
        sigma_min: float = 0.01,
        sigma_max: float = 100.0,
    ) -> None:
        super().__init__()
        self.space = Space(tuple(mean.shape), mean.dtype)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.mean: Tensor
        self.variance: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance.expand_as(mean).clone())
        pixelwise = analysis is _identity
        self.register_buffer("std", self.variance.sqrt() if pixelwise else self.variance.mean().sqrt())
        self.analysis, self.synthesis = analysis, synthesis

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """m + C (C + sigma^2)^-1 (x - m)."""
        gain = self.variance / (self.variance + rows(sigma, x) ** 2)
        return self.mean + self.synthesis(gain * self.analysis(x - self.mean))

    def sample(self, xi: Tensor) -> Tensor:
        """Draws m + C^(1/2) xi from standard normal xi, (B, *shape)."""
        return self.mean + self.synthesis(self.variance.sqrt() * self.analysis(xi))

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log density of x_sigma up to a constant, (B, *shape) -> (B,)."""
        modes = self.analysis(x - self.mean)
        return -0.5 * (modes**2 / (self.variance + rows(sigma, x) ** 2)).flatten(1).sum(1)


def posterior(prior_mean: Tensor, C: Tensor, A: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean (n,) and covariance (n, n) of x given y = A x + n: the truth that solvers are held to.

    Args:
        prior_mean: m, (n,).
        C: prior covariance, (n, n).
        A: dense operator, (m, n).
        y: measurement, (m,).
        sigma: noise standard deviation, > 0.
    """
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + sigma**2 * torch.eye(len(y), dtype=C.dtype))
    return prior_mean + gain @ (y - A @ prior_mean), C - gain @ A @ C
