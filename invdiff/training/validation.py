"""How well a network denoises crops that it was not trained on, level by level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.networks import Network
from invdiff.priors.network import NetworkPrior
from invdiff.rng import generator
from invdiff.space import Space
from invdiff.training.crops import Source

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Validation:
    """Fixed crops (n, C, S, S) and fixed noise, the same at every call."""

    x0: Tensor
    noise: Tensor

    @classmethod
    def of(cls, source: Source, size: int, seed: int, count: int = 16) -> Validation:
        """Crops of a source that training does not draw from."""
        g = generator(seed, "validation")
        x0 = source.draw(count, size, g)
        return cls(x0, torch.randn(x0.shape, generator=g))

    def losses(self, net: Network, std: float) -> dict[float, float]:
        """Root mean square error left, as a fraction of the noise, for each level of `LEVELS`; 1 is no gain."""
        return {level: float((self.denoised(net, std, level) - self.x0).square().mean().sqrt()) / level
                for level in LEVELS}  # fmt: skip

    def denoised(self, net: Network, std: float, level: float) -> Tensor:
        """E[x0 | x0 + level noise] by a network of EDM's parameterisation, on its own device, (n, C, S, S)."""
        z = self.x0 + level * self.noise
        device, training = next(net.parameters()).device, net.training
        grads = [p.requires_grad for p in net.parameters()]
        prior = NetworkPrior(net, Space(tuple(z.shape[1:])), mean=0.0, std=std).to(device)
        with torch.no_grad():
            out = prior.denoise(z.to(device), torch.full((len(z),), level, device=device)).cpu()
        for p, grad in zip(net.train(training).parameters(), grads, strict=True):  # a prior freezes its network
            p.requires_grad_(grad)
        return out
