"""Several priors of the same images at once: their scores are added."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from invdiff.errors import ConfigError, PriorError
from invdiff.priors.base import Prior


class ProductPrior(Prior):
    """score = sum_i w_i score_i, so that D(x) = x + sum_i w_i (D_i(x) - x).

    At each noise level this is the score of prod_i p_i(x_sigma)^w_i, which is not the noisy version of
    prod_i p_i(x_0)^w_i: samples are broader. For modes of variances L and M, each at half weight, they have variance
    L M ln(L / M) / (L - M), the product of densities 2 L M / (L + M) (docs/volumes.md).

    Args:
        priors: of one space.
        weights: w, how reliable each is, > 0; with a sum of 1 they share one image's worth of knowledge, with 1 each
            they are taken as independent witnesses.

    Raises:
        ConfigError: no priors, or not a weight > 0 for each.
        PriorError: priors of different spaces.
    """

    def __init__(self, priors: Sequence[Prior], weights: Sequence[float]) -> None:
        super().__init__()
        if not priors or len(priors) != len(weights) or min(weights) <= 0:
            raise ConfigError(f"each of {len(priors)} priors needs a weight > 0, got {list(weights)}")
        same_space(priors)
        self.priors, self.weights = nn.ModuleList(priors), tuple(float(w) for w in weights)
        self.space = priors[0].space
        self.sigma_min, self.sigma_max = max(p.sigma_min for p in priors), min(p.sigma_max for p in priors)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Mean of the priors' own, by weight."""
        return self._by_weight([p.mean for p in self.priors]) / sum(self.weights)  # type: ignore[misc]

    @property
    def std(self) -> Tensor:  # type: ignore[override]
        """That of the product of Gaussians of the priors' own."""
        return self._by_weight([p.std**-2 for p in self.priors]) ** -0.5  # type: ignore[operator]

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x + sum_i w_i (D_i(x) - x): one call of each prior."""
        out = x * (1 - sum(self.weights))
        for w, prior in self._pairs():
            out = out + w * prior.denoise(x, sigma)
        return out

    def _by_weight(self, moments: list[Tensor]) -> Tensor:
        total = self.weights[0] * moments[0]
        for w, moment in zip(self.weights[1:], moments[1:], strict=True):
            total = total + w * moment  # numbers and fields of different planes
        return total

    def _pairs(self) -> list[tuple[float, Prior]]:
        return list(zip(self.weights, self.priors, strict=True))  # type: ignore[arg-type]


def same_space(priors: Sequence[Prior]) -> None:
    """Raise PriorError for priors of different images."""
    spaces = {(tuple(p.space.shape), p.space.dtype) for p in priors}
    if len(spaces) > 1:
        raise PriorError(f"priors of different images cannot be joined: {', '.join(sorted(map(str, spaces)))}")
