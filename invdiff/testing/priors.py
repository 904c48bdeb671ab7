"""Laws of priors."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.priors.gaussian import GaussianPrior


def check_prior(prior: Prior, x: Tensor, tolerance: float) -> None:
    """denoise(x, -> 0) -> x, rows do not see each other, inputs stay, and the result lies in the prior's space.

    Args:
        prior: any.
        x: clean images, (B, *space.shape), B > 1.
        tolerance: relative to the spread of x.
    """
    scale = float(x.std())
    sigma = torch.full((len(x),), prior.sigma_min, dtype=x.dtype)
    before = x.clone()
    out = prior.denoise(x, sigma)
    assert torch.equal(x, before), "denoise changed its input"
    assert (out.shape, out.dtype) == (x.shape, x.dtype), f"denoise gave {out.shape} {out.dtype}"
    assert float((out - x).square().mean().sqrt()) < prior.sigma_min + tolerance * scale, (
        "not the identity at sigma_min"
    )
    mixed = torch.linspace(0.05, 2, len(x)).to(x) * scale
    together = prior.denoise(x, mixed)
    for i in range(len(x)):
        alone = prior.denoise(x[i : i + 1], mixed[i : i + 1])
        gap = float((alone - together[i : i + 1]).abs().max())
        assert gap < tolerance * scale, f"row {i} changes by {gap:.1e} with its neighbours"


def smooth_gaussian(side: int, cutoff: float = 60.0) -> GaussianPrior:
    """A Gaussian prior of smooth images, (1, side, side), mean 0.4, deviation 0.3: a data set with a closed form.

    Its modes are the cosines of the DCT; their variance falls beyond the squared index `cutoff`: the smaller, the
    smoother.
    """
    k = torch.arange(side).float()
    M = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / (2 * side)) * (2 / side) ** 0.5
    M[0] /= 2**0.5
    variance = (1 + (k[:, None] ** 2 + k[None] ** 2) / cutoff) ** -1.5
    return GaussianPrior(
        torch.full((1, side, side), 0.4),
        0.09 * variance[None] / variance.mean(),
        analysis=lambda x: M @ x @ M.T,
        synthesis=lambda x: M.T @ x @ M,
    )
