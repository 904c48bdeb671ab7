"""TPDM (Lee et al., ICCV 2023): two priors of perpendicular slices that take turns down one noise ladder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from invdiff.errors import ConfigError
from invdiff.priors.base import Prior
from invdiff.priors.product import same_space
from invdiff.rng import Rng


class PerpendicularPrior(Prior):
    """One prior per noise level: every K-th level an auxiliary one, else the primary.

    On average over the ladder the scores are weighted by 1 - 1/K and 1/K, at one call per slice and level. Where K is
    no whole number the turns are as even as can be, and no matter of chance as in the published code. Several
    auxiliary priors take turns among themselves. All at once is `ProductPrior`.

    Args:
        primary: of volumes.
        auxiliary: one or several, of the same volumes.
        ratio: K > 1.

    Raises:
        ConfigError: no auxiliary prior; K of 1 or less.
        PriorError: priors of different volumes.
    """

    def __init__(self, primary: Prior, auxiliary: Prior | Sequence[Prior], ratio: float = 2.0) -> None:
        super().__init__()
        others = [auxiliary] if isinstance(auxiliary, Prior) else list(auxiliary)
        if not others or not 1 < ratio < math.inf:
            raise ConfigError(f"an auxiliary prior and a ratio above 1 are needed, got {len(others)} and {ratio:g}")
        same_space([primary, *others])
        self.primary, self.auxiliary, self.ratio = primary, nn.ModuleList(others), ratio
        self.space = primary.space
        every = [primary, *others]
        self.sigma_min, self.sigma_max = max(p.sigma_min for p in every), min(p.sigma_max for p in every)

    @property
    def calls(self) -> int:
        """Network calls so far, of all."""
        return sum(getattr(p, "calls", 0) for p in (self.primary, *self.auxiliary))

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """The primary's."""
        return self.primary.mean

    @property
    def std(self) -> Tensor:  # type: ignore[override]
        """The primary's."""
        return self.primary.std

    def at(self, step: int, rng: Rng) -> Prior:
        """The one whose turn it is."""
        turn = self.turn(step)
        return (self.primary if turn is None else self.auxiliary[turn]).at(step, rng)  # type: ignore[operator]

    def guided(self, step: int) -> bool:
        """On turns of the primary."""
        return self.turn(step) is None

    def turn(self, step: int) -> int | None:
        """Number of the auxiliary prior of a level; None for the primary."""
        before, after = math.floor(step / self.ratio), math.floor((step + 1) / self.ratio)
        return None if before == after else before % len(self.auxiliary)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """By the primary."""
        return self.primary.denoise(x, sigma)
