"""Samples of a measured volume as they come: mean, spread and fit, without keeping more than is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invdiff.measurements import Measurement
from invdiff.moments import Moments
from invdiff.noise.gaussian import GaussianNoise
from invdiff.problem import InverseProblem
from invdiff.solution import Interrupted
from invdiff.volumes import Volume

Each = Callable[[int, Tensor], None]


class Gathered:
    """What remains of samples (P, *space) of the unknown.

    Args:
        problem: with data and noise in their own units.
        m: the measurement.
        each: takes the samples, if they are not to be kept.
        spread: whether there will be several.

    Attributes:
        first_fit: `data_fit` of the first sample.
    """

    def __init__(self, problem: InverseProblem[Any, Any], m: Measurement, each: Each | None, *, spread: bool) -> None:
        self.problem, self.m, self.each = problem, m, each
        self.of_unknown, self.of_stored = Moments(spread=False), Moments() if spread else None
        self.kept: list[Tensor] = []
        self.first_fit: dict[str, float | None] = {}

    def add(self, x: Tensor) -> None:
        """Take one more into account."""
        number = self.of_unknown.count
        self.first_fit = self.first_fit or data_fit(self.problem, x)
        self.of_unknown.add(x)
        if self.of_stored:
            self.of_stored.add(self.m.stored(x))
        if self.each:
            self.each(number, x.cpu())
        else:
            self.kept.append(x.cpu())

    @property
    def mean(self) -> Tensor:
        """Of the unknown, (P, *space)."""
        return self.of_unknown.mean

    def result(self) -> tuple[Volume, Volume | None, dict[str, dict[str, float | None]]]:
        """Mean, spread of what is stored (None for one sample), and how well the mean and the first sample fit."""
        alone = self.of_unknown.count == 1
        fit = {"mean": self.first_fit if alone else data_fit(self.problem, self.mean), "first_sample": self.first_fit}
        return self.m.volume(self.mean), self.m.place(self.of_stored.std) if self.of_stored else None, fit

    @property
    def samples(self) -> Tensor:
        """Those that were kept, (N, P, *space)."""
        return torch.stack(self.kept) if self.kept else self.mean.new_empty((0, *self.mean.shape))

    def so_far(self, e: Interrupted, seed: int, decode: Callable[[Tensor], Tensor]) -> Volume | None:
        """The mean of what is complete, or else what is known of the first sample; None where that is nothing."""
        if self.of_unknown.count:
            return self.m.volume(self.mean)
        rows = {p: x for (s, p), x in e.rows.items() if s == seed}
        if not rows:
            return None
        nothing = torch.zeros_like(next(iter(rows.values())))
        return self.m.volume(decode(torch.stack([rows.get(p, nothing) for p in range(len(self.problem.y))])))


def data_fit(problem: InverseProblem[Any, Any], x: Tensor) -> dict[str, float | None]:
    """||y - A x|| / ||y|| over all slices, and chi2, which is 1 for an exact posterior sample.

    chi2 = ||y - A x||^2 / (m sigma^2); None without noise, or for noise that is not Gaussian.
    """
    residual2 = y2 = 0.0
    for at, part in problem.parts():
        residual2 += float(part.residual_norm2(x[at]).double().sum())
        y2 += float((part.y.abs().double() ** 2).sum())
    m = problem.operator.range.reals * len(problem.y)
    sigma = problem.noise.sigma if isinstance(problem.noise, GaussianNoise) else 0
    return {"relative_residual": (residual2 / y2) ** 0.5, "chi2": residual2 / (m * sigma**2) if sigma else None}
