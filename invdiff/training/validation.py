"""How well a network does on crops that it was not trained on, level by level, or time by time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.bridges.network import NetworkBridge
from invdiff.networks import Network
from invdiff.priors.network import NetworkPrior
from invdiff.rng import generator
from invdiff.space import Space
from invdiff.training.bridge import BridgeTraining, Degradation
from invdiff.training.crops import Source

TIMES = (0.25, 0.5, 0.75, 1.0)
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
        device = next(net.parameters()).device
        with kept(net), torch.no_grad():
            prior = NetworkPrior(net, Space(tuple(z.shape[1:])), mean=0.0, std=std).to(device)
            return prior.denoise(z.to(device), torch.full((len(z),), level, device=device)).cpu()


@dataclass(frozen=True)
class BridgeValidation:
    """Fixed crops (n, C, S, S), each degraded in its own way, and fixed noise."""

    x0: Tensor
    x1: Tensor
    noise: Tensor
    settings: BridgeTraining

    @classmethod
    def of(cls, source: Source, settings: BridgeTraining, degrade: Degradation, count: int = 8) -> BridgeValidation:
        """Crops of a source that training does not draw from."""
        g = generator(settings.seed, "validation")
        x0 = source.draw(count, settings.crop, g)
        x1 = torch.cat([degrade(x, g) for x in x0.split(1)])
        return cls(x0, x1, torch.randn(x0.shape, generator=g), settings)

    def losses(self, net: Network, std: float) -> dict[float, float]:
        """Root mean square error left, as a fraction of that of the state, for each of `TIMES`; 1 is the degraded end.

        There the state is x1 itself, as a solver begins.
        """
        process = self.settings.way()
        device = next(net.parameters()).device
        found = {}
        for time in TIMES:
            t = round(time * (len(process) - 1))
            a, s = float(process.a[t]), float(process.s[t])
            x = self.x1 if time == 1 else (1 - a) * self.x0 + a * self.x1 + s * self.noise
            with kept(net), torch.no_grad():
                bridge = self.bridge(net, std)
                x0 = bridge.clean(x.to(device), self.x1.to(device), t).cpu()
            found[time] = float((x0 - self.x0).norm() / (x - self.x0).norm())
        return found

    def bridge(self, net: Network, std: float) -> NetworkBridge:
        """The network as a bridge of crops."""
        space = Space(tuple(self.x0.shape[1:]))
        return NetworkBridge(net, space, self.settings.way(), conditional=self.settings.conditional, std=std)


@contextmanager
def kept(net: Network) -> Iterator[None]:
    """What a prior or a bridge freezes is as it was afterwards."""
    training, grads = net.training, [p.requires_grad for p in net.parameters()]
    yield
    for p, grad in zip(net.train(training).parameters(), grads, strict=True):
        p.requires_grad_(grad)
