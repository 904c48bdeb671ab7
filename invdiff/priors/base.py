"""p(x), known through its denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from invdiff.linalg import rows
from invdiff.rng import Rng
from invdiff.space import Space


class Prior(nn.Module, ABC):
    """A prior over images of one space; the only noising in the house is x_sigma = x_0 + sigma * eps.

    Attributes:
        space: shape and dtype of an image, (C, *spatial).
        sigma_min, sigma_max: noise levels between which `denoise` can be trusted, in the units of x.
        mean, std: moments of x_0, numbers or fields, for the start of a run.
    """

    space: Space
    sigma_min: float
    sigma_max: float
    mean: Tensor
    std: Tensor

    def at(self, step: int, rng: Rng) -> Prior:
        """The prior to use at one noise level, chosen once per level: itself, unless planes or windows alternate."""
        del step, rng
        return self

    def guided(self, step: int) -> bool:
        """Whether the data are looked at on a level: on all, but on auxiliary turns of a `PerpendicularPrior`."""
        del step
        return True

    @property
    def trained(self) -> Prior:
        """The prior as it was trained: itself, unless it follows a scan (`SteeredPrior`)."""
        return self

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x_sigma = x], (B, *space.shape) and (B,) -> (B, *space.shape); differentiable in x."""

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Gradient of log p_sigma at x (Tweedie): (denoise(x, sigma) - x) / sigma^2."""
        return (self.denoise(x, sigma) - x) / rows(sigma, x) ** 2
