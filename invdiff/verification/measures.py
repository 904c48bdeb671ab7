"""How far samples are from a posterior that is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from invdiff.rng import generator
from invdiff.verification.problems import Known

DIRECTIONS = 64


@dataclass(frozen=True)
class Distance:
    """Samples against the truth; a perfect sampler is at 0, 1, 1 and 0, up to the error of finitely many samples.

    Attributes:
        mean: root mean square error of the mean of the samples, in posterior standard deviations.
        std: root mean square of their standard deviation, divided by that of the posterior.
        chi2: mean of ||y - A x||^2 / (m s^2) over the samples, divided by its mean over the posterior.
        wasserstein: sliced Wasserstein distance beyond that of as many exact samples, in posterior standard deviations.
    """

    mean: float
    std: float
    chi2: float
    wasserstein: float


def distance(known: Known, samples: Tensor) -> Distance:
    """Distance of samples (N, n) from the posterior."""
    truth, apart, fit = _exact(known, len(samples))
    scale = float((known.std**2).mean().sqrt())
    return Distance(
        mean=float(((samples.mean(0) - known.mean) ** 2).mean().sqrt()) / scale,
        std=float((samples.var(0).mean()).sqrt()) / scale,
        chi2=chi2(known, samples) / fit,
        wasserstein=max(0.0, (sliced(samples, truth) - apart) / scale),
    )


@cache
def _exact(known: Known, count: int) -> tuple[Tensor, float, float]:
    """So many draws from the posterior, how far as many others are from them, and the chi2 of draws."""
    truth = known.draw(count, 1)
    return truth, sliced(known.draw(count, 2), truth), chi2(known, known.draw(4000, 3))


def chi2(known: Known, samples: Tensor) -> float:
    """Mean of ||y - A x||^2 / (m s^2) over samples (N, n); 1 over draws of image and measurement together."""
    problem = known.problem.rows([0] * len(samples))
    residual2 = problem.residual_norm2(samples.reshape(-1, *known.problem.operator.domain.shape))
    return float(residual2.mean()) / (problem.operator.range.reals * problem.noise.sigma**2)


def sliced(a: Tensor, b: Tensor) -> float:
    """Sliced Wasserstein-1 distance of two sets of as many points, (N, n): the mean over random unit directions."""
    directions = torch.randn((a.shape[1], DIRECTIONS), dtype=a.dtype, generator=generator("sliced wasserstein"))
    directions = directions / directions.norm(dim=0)
    return float(((a @ directions).sort(0).values - (b @ directions).sort(0).values).abs().mean())
