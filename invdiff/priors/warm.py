"""A prior whose runs start from images that are known already, e.g. the estimates of neighbours."""

from __future__ import annotations

from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.rng import Rng


class WarmPrior(Prior):
    """The same denoiser; the moments for the start of a run are given images, one a row, and no spread.

    The start of a `DiffusionSolver` at level sigma is then mean + sigma e.

    Args:
        prior: whose denoiser it is.
        mean: where each row of a batch starts, (B, *space.shape): batches of B rows, in this order.
    """

    def __init__(self, prior: Prior, mean: Tensor) -> None:
        super().__init__()
        self.prior, self.space = prior, prior.space
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", mean.new_zeros(()))

    @property
    def calls(self) -> int:
        """Network calls so far."""
        return getattr(self.prior, "calls", 0)

    @property
    def trained(self) -> Prior:
        """That of the prior."""
        return self.prior.trained

    def at(self, step: int, rng: Rng) -> Prior:
        """The prior itself, or the one whose turn it is: with its own spread, which solvers ask for at every level."""
        return self.prior.at(step, rng)

    def guided(self, step: int) -> bool:
        """As of the prior."""
        return self.prior.guided(step)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """By the prior."""
        return self.prior.denoise(x, sigma)
