"""What a prior makes of noise: unconditional samples, by the solver of every other task and a measurement of nothing.

A measurement whose noise is beyond all bounds says nothing, so the posterior is the prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.files import sha256
from invdiff.linalg import root_sum_of_squares
from invdiff.networks import Network
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity
from invdiff.preparation import pick_device
from invdiff.priors import Prior
from invdiff.priors.checkpoints import Card, bind, find, load, units
from invdiff.priors.network import pick_dtype
from invdiff.problem import InverseProblem
from invdiff.reconstruction import machine, versions
from invdiff.solution import WIDTH, Callback, solve
from invdiff.solvers import DiffPIR
from invdiff.space import Space
from invdiff.volumes import Volume

SIZE = (128, 128)
STEPS = 50
WIDEST = 20.0  # noise to start from, in units of the prior's range: there images are lost in it, four bits above noise
NOTHING = 1e6  # noise of the empty measurement, in the same units


@dataclass(frozen=True)
class Samples:
    """Unconditional samples.

    Attributes:
        images: (N, H, W) float32, magnitudes for a complex prior; in stored units for a prior with a window, else in
            units of the 99.9th percentile.
        card: of the prior.
        facts: how they were drawn; JSON-able.
    """

    images: Tensor
    card: Card
    facts: dict[str, Any]

    def volume(self) -> Volume:
        """The samples stacked along the third axis; voxels of the geometric middle of the prior's, 1 mm if unknown."""
        sizes = self.card.spacing
        mm = math.sqrt(min(sizes) * max(sizes)) if sizes else 1.0
        return Volume(self.images.permute(1, 2, 0)[None].contiguous(), np.diag([mm, mm, mm, 1.0]))


def sample(
    prior: str | Path,
    *,
    size: tuple[int, int] = SIZE,
    seeds: Sequence[int] = tuple(range(16)),
    steps: int = STEPS,
    device: str = "auto",
    dtype: str = "auto",
    callback: Callback | None = None,
) -> Samples:
    """Draw from a prior, one sample a seed; the same seed gives the same sample, alone or among others.

    Args:
        prior: a prior that ships or is installed, or a file.
        size: rows and columns.
        seeds: one sample each.
        steps: noise levels.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: precision of the network: auto, float32 or bfloat16.
        callback: called with each iterate.

    Raises:
        ConfigError: a side below 1 or no seeds; a device that is not there.
        PriorError: as `checkpoints.find` and `checkpoints.load`.
        DivergedError, OutOfMemoryError: as `solve`.
    """
    if min(size) < 1 or not seeds:
        raise ConfigError(f"samples have at least 1 x 1 voxels and 1 seed, got {size[0]} x {size[1]} and {len(seeds)}")
    path, place = find(str(prior)), pick_device(device)
    precision = pick_dtype(dtype, place)
    net, card = load(path)
    u = draw(net, card, size=size, seeds=seeds, steps=steps, device=place, dtype=precision, callback=callback)
    numbers = units(card)
    images = numbers.between(*(numbers.window or (0.0, 1.0))).decode(u.cpu())
    images = images[:, 0] if card.channels == 1 else root_sum_of_squares(images, 1)
    facts = {
        "command": "sample",
        "prior": {"name": card.name, "file": str(prior), "sha256": sha256(path)},
        "size": list(size),
        "steps": steps,
        "seeds": list(seeds),
        "dtype": str(precision).removeprefix("torch."),
        "machine": machine(place),
        "versions": versions(),
        "intended_use": "research only",
    }
    return Samples(images, card, facts)


def draw(
    net: Network,
    card: Card,
    *,
    size: tuple[int, ...] = SIZE,
    seeds: Sequence[int] = tuple(range(16)),
    steps: int = STEPS,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    callback: Callback | None = None,
) -> Tensor:
    """Samples of a network in memory, (N, C, H, W) in the prior's own units."""
    prior = bind(net, card, Space((card.channels, *size)), dtype=dtype, width=WIDTH).to(device)
    low, high = units(card).range
    return unconditional(prior, seeds=seeds, steps=steps, unit=high - low, callback=callback)


def unconditional(
    prior: Prior, *, seeds: Sequence[int], steps: int = STEPS, unit: float = 1.0, callback: Callback | None = None
) -> Tensor:
    """Samples (N, *space.shape) of any prior.

    Args:
        prior: what to draw from.
        seeds: one sample each.
        steps: noise levels.
        unit: extent of the prior's numbers; the ladder starts at no more than 20 of it.
        callback: called with each iterate.
    """
    nothing = torch.zeros((1, *prior.space.shape), dtype=prior.space.dtype, device=prior.mean.device)
    problem = InverseProblem(Identity(prior.space).to(nothing.device), GaussianNoise(NOTHING * unit), nothing)
    solver = DiffPIR(steps=steps, sigma_max=min(prior.sigma_max, WIDEST * unit), sigma_min=prior.sigma_min)
    return solve(problem, prior, solver, seeds=seeds, callback=callback).samples[:, 0]
