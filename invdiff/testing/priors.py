"""Laws of priors."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.priors.base import Prior


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
