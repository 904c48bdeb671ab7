"""A prior of slices as a prior of volumes: every slice by itself, all in one call."""

from __future__ import annotations

from torch import Tensor

from invdiff.errors import PriorError
from invdiff.priors.base import Prior
from invdiff.space import Space


class SlicewisePrior(Prior):
    """The slices across one axis of a volume are independent draws of a prior of slices.

    Args:
        prior: of one slice, (C, H, W).
        space: of the volume, (C, X, Y, Z).
        axis: the one that counts the slices: 0, 1 or 2.

    Raises:
        PriorError: the slices of that axis have another shape than the prior's images.
    """

    def __init__(self, prior: Prior, space: Space, axis: int) -> None:
        super().__init__()
        plane = tuple(n for i, n in enumerate(space.shape) if i != 1 + axis)
        if len(space.shape) != 4 or plane != tuple(prior.space.shape):
            raise PriorError(f"slices across axis {axis} of {space} are {plane}, the prior is of {prior.space}")
        self.prior, self.space, self.axis = prior, space, axis
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max

    @property
    def calls(self) -> int:
        """Network calls so far."""
        return getattr(self.prior, "calls", 0)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Of each slice."""
        return self._field(self.prior.mean)

    @property
    def std(self) -> Tensor:  # type: ignore[override]
        """Of each slice."""
        return self._field(self.prior.std)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x_sigma = x], (B, C, X, Y, Z): B times as many slices as the axis has, at once."""
        slices = x.movedim(2 + self.axis, 1)
        n = slices.shape[1]
        out = self.prior.denoise(slices.flatten(0, 1), sigma.repeat_interleave(n))
        return out.unflatten(0, (-1, n)).movedim(1, 2 + self.axis)

    def _field(self, moment: Tensor) -> Tensor:
        return moment if moment.ndim == 0 else moment.unsqueeze(1 + self.axis)
