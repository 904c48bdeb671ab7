"""Training of a bridge: I2SB's loss (Liu et al. 2023), for a family of acquisitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_doc import Doc
from annotated_types import Gt
from torch import Generator, Tensor

from invdiff import networks
from invdiff.bridges import Family, Process, process
from invdiff.bridges.network import seen
from invdiff.errors import ConfigError
from invdiff.networks import Network
from invdiff.noise.gaussian import GaussianNoise
from invdiff.priors.scaling import Units
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.space import Space
from invdiff.training.loop import Settings, Task


@dataclass(frozen=True, kw_only=True)
class BridgeTraining(Settings):
    """Settings of the training of a bridge; crops are whole fields of view, since what degrades them knows no crop."""

    batch: Annotated[int, Gt(0), Doc("Crops per step, all degraded alike.")] = 6
    crop: Annotated[int, Gt(0), Doc("Side of a crop in pixels: the field of view.")] = 128
    grow_at: Annotated[float, Doc("Fraction of the steps after which crops double in side.")] = 1.0
    learning_rate: Annotated[float, Gt(0), Doc("Peak learning rate of AdamW.")] = 4e-4
    process: Annotated[Literal["i2sb", "ot-ode", "indi"], Doc("Noisy, its deterministic limit, or a straight line.")] = "i2sb"  # noqa: E501  # fmt: skip
    conditional: Annotated[bool, Doc("Show the network the degraded image at every time.")] = False
    beta_max: Annotated[float, Gt(0), Doc("Of I2SB's betas.")] = 0.3
    spread: Annotated[float, Gt(0), Doc("Scale of the noise on the way: 1 for images in [-1, 1].")] = 0.5

    def way(self) -> Process:
        """The process; raises ConfigError for a deterministic one whose network is shown x1."""
        if self.conditional and self.process != "i2sb":
            raise ConfigError(
                "a deterministic bridge that is shown x1 learns a subtraction, not images; leave one of them out"
            )
        return process(self.process, self.beta_max, self.spread)


@dataclass(frozen=True)
class Degradation:
    """Clean images in a network's units -> what the direct reconstruction makes of a measurement of them.

    Attributes:
        family: of acquisitions.
        units: of the images.
        pixels: least and greatest side of a pixel in mm, between which a crop's is drawn.
    """

    family: Family
    units: Units
    pixels: Sequence[float]

    def __call__(self, u: Tensor, g: Generator) -> Tensor:
        """(n, C, S, S) -> the same: one acquisition for all, noise of their own."""
        acquisition, level = self.family.draw(g)
        seed = int(torch.randint(2**31, (), generator=g))
        low, high = self.pixels or (1.0, 1.0)
        mm = low + (high - low) * float(torch.rand((), generator=g))
        space, spacing = Space((1, *u.shape[2:])), (mm, mm)
        scaling = self.units.between(*(w - acquisition.zero for w in self.units.window or (0.0, 1.0)))
        maps = acquisition.maps(space, spacing, seed)
        A, x = acquisition.operator(space, spacing, maps), scaling.decode(u)
        rng = Rng([(seed, i) for i in range(len(u))])
        y, noise, found = acquisition.measure(x, A(x), maps, GaussianNoise, level, rng)
        A = acquisition.operator(space, spacing, maps | found) if found else A
        problem = scaling.encode(InverseProblem(A, noise, y))
        return problem.operator.direct(problem.y)


def bridging(settings: BridgeTraining, degrade: Degradation) -> Task:
    """To find the clean end of x_t = (1 - a) x0 + a x1 + s z, at times drawn uniformly."""
    way = settings.way()

    def task(x0: Tensor, g: Generator, std: float) -> tuple[Tensor, Tensor, Tensor]:
        x1 = degrade(x0, g)
        t = torch.randint(len(way), (len(x0),), generator=g)
        a, s, c = (v[t].float()[:, None, None, None] for v in (way.a, way.s, way.c))
        x = (1 - a) * x0 + a * x1 + s * torch.randn(x0.shape, generator=g)
        return seen(x, x1 if settings.conditional else None, std), c.flatten().log() / 4, (x0 - x) / c

    return task


def widened(net: Network, channels: int) -> Network:
    """The same network for more channels, which it does not look at yet and of which it says 0."""
    wide = networks.build(type(net).__name__.lower(), net.config | {"in_channels": channels})
    old = net.state_dict()
    wide.load_state_dict({name: _filled(old[name], v.shape) for name, v in wide.state_dict().items()})
    return wide


def _filled(value: Tensor, shape: torch.Size) -> Tensor:
    missing = [(0, want - have) for want, have in zip(shape, value.shape, strict=True)]
    return F.pad(value, [n for pair in reversed(missing) for n in pair])
