"""A mixture of low-rank Gaussians: the union-of-subspaces model, multi-modal and still a closed form.

    p(x) = sum_k w_k N(m_k, U_k diag(c_k) U_k^T + floor I)

Denoiser, score and, with a linear operator, the posterior are exact. It can be fitted to patches without a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.linalg import rows
from invdiff.priors.base import Prior
from invdiff.rng import generator
from invdiff.space import Space


class MixturePrior(Prior):
    """Mixture of K Gaussians of rank r over images of n elements.

    Args:
        space: real images; n is the product of its shape.
        weights: w_k > 0, (K,); normalised here.
        means: m_k, (K, n).
        bases: U_k with orthonormal columns, (K, n, r).
        variances: c_k >= 0, (K, r).
        floor: variance in all directions, > 0.
        sigma_min, sigma_max: ends of the noise ladder.

    Raises:
        PriorError: shapes that do not belong together, or a floor or weight that is not positive.
    """

    def __init__(
        self,
        space: Space,
        weights: Tensor,
        means: Tensor,
        bases: Tensor,
        variances: Tensor,
        floor: float,
        *,
        sigma_min: float = 0.01,
        sigma_max: float = 100.0,
    ) -> None:
        super().__init__()
        K, n, r = bases.shape
        if (weights.shape, means.shape, variances.shape) != ((K,), (K, n), (K, r)) or n != math.prod(space.shape):
            raise PriorError(f"mixture of {K} x rank {r} on {n} elements: weights, means or space ({space}) do not fit")
        if not (floor > 0 and bool((weights > 0).all())):
            raise PriorError("the floor and all weights of a mixture must be > 0")
        self.space, self.floor, self.sigma_min, self.sigma_max = space, floor, sigma_min, sigma_max
        self.log_weights: Tensor
        self.means: Tensor
        self.bases: Tensor
        self.variances: Tensor
        self.mean: Tensor
        self.std: Tensor
        w = weights / weights.sum()
        self.register_buffer("log_weights", w.log())
        self.register_buffer("means", means)
        self.register_buffer("bases", bases)
        self.register_buffer("variances", variances)
        mean = w @ means
        spread = floor + torch.einsum("knr,kr->kn", bases**2, variances) + (means - mean) ** 2
        self.register_buffer("mean", mean.reshape(space.shape))
        self.register_buffer("std", (w @ spread).sqrt().reshape(space.shape))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """sum_k p(k | x) E[x_0 | x, k]."""
        responsibility = torch.softmax(self._log_joint(x, sigma), dim=1)
        return torch.einsum("bk,bkn->bn", responsibility, self._conditional_means(x, sigma)).reshape(x.shape)

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p_sigma(x), (B, *shape) and (B,) -> (B,)."""
        return torch.logsumexp(self._log_joint(x, sigma), dim=1)

    def posterior(self, A: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        """The exact posterior for y = A x + n: weights (K,), means (K, n) and covariances (K, n, n), a mixture again.

        Args:
            A: dense operator, (m, n).
            y: measurement, (m,).
            sigma: noise standard deviation, > 0.
        """
        C = self.covariances()
        S = A @ C @ A.T + sigma**2 * torch.eye(len(y), dtype=C.dtype)
        gain = C @ A.T @ torch.linalg.inv(S)
        residual = y - self.means @ A.T
        evidence = torch.distributions.MultivariateNormal(torch.zeros_like(y), S).log_prob(residual)
        weights = torch.softmax(self.log_weights + evidence, dim=0)
        return weights, self.means + (gain @ residual[..., None])[..., 0], C - gain @ A @ C

    def covariances(self) -> Tensor:
        """U_k diag(c_k) U_k^T + floor I, (K, n, n)."""
        low_rank = (self.bases * self.variances[:, None]) @ self.bases.mT
        return low_rank + self.floor * torch.eye(self.means.shape[1], dtype=low_rank.dtype)

    def _centred(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        d = x.flatten(1)[:, None] - self.means  # (B, K, n)
        modes = torch.einsum("bkn,knr->bkr", d, self.bases)
        rest = self.floor + rows(sigma, d) ** 2  # variance of x_sigma outside the subspace, (B, 1, 1)
        return d, modes, rest, self.variances + rest

    def _log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        d, modes, rest, inside = self._centred(x, sigma)
        n, r = self.bases.shape[1:]
        quadratic = (modes**2 / inside).sum(-1) + ((d**2).sum(-1) - (modes**2).sum(-1)) / rest[..., 0]
        log_det = inside.log().sum(-1) + (n - r) * rest[..., 0].log()
        return self.log_weights - 0.5 * (quadratic + log_det + n * math.log(2 * math.pi))

    def _conditional_means(self, x: Tensor, sigma: Tensor) -> Tensor:
        d, modes, rest, inside = self._centred(x, sigma)
        outside_gain = self.floor / rest
        extra = (self.variances + self.floor) / inside - outside_gain
        return self.means + outside_gain * d + torch.einsum("bkr,knr->bkn", extra * modes, self.bases)


def fit_mixture(
    patches: Tensor, *, components: int, rank: int, floor: float = 1e-4, iterations: int = 30, seed: int = 0
) -> MixturePrior:
    """Fit by expectation maximisation (Zoran and Weiss, ICCV 2011), each covariance cut to its leading directions.

    Args:
        patches: training images, (N, C, *spatial).
        components: K.
        rank: r, directions kept per component.
        floor: smallest variance of a direction; what lies outside the subspace is averaged into the floor.
        iterations: EM steps.
        seed: of the first assignment.
    """
    x = patches.flatten(1)
    N = len(x)
    picks = torch.randperm(N, generator=generator(seed, "mixture"))[:components]
    near = torch.cdist(x, x[picks]).argmin(1)
    responsibility = torch.nn.functional.one_hot(near, components).to(x)
    space = Space(tuple(patches.shape[1:]), patches.dtype)
    for _ in range(iterations):
        counts = responsibility.sum(0) + 1e-3
        means = responsibility.T @ x / counts[:, None]
        bases, variances, rest = _subspaces(x, responsibility, means, counts, rank)
        level = max(floor, float((counts @ rest) / counts.sum()))
        prior = MixturePrior(space, counts, means, bases, (variances - level).clamp_min(0), level)
        responsibility = torch.softmax(prior._log_joint(patches, torch.zeros(N).to(x)), dim=1)
    return prior


def _subspaces(x: Tensor, weights: Tensor, means: Tensor, counts: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading directions, their variances, and the mean variance outside, of each component."""
    bases, variances, rest = [], [], []
    for k, mean in enumerate(means):
        d = x - mean
        values, vectors = torch.linalg.eigh((weights[:, k, None] * d).T @ d / counts[k])
        bases.append(vectors[:, -rank:])
        variances.append(values[-rank:])
        rest.append(values[:-rank].mean() if len(values) > rank else values.new_zeros(()))
    return torch.stack(bases), torch.stack(variances), torch.stack(rest)
