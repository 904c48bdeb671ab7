"""Problem G: three independent scalar modes whose posterior, and the law of every affine solver, are known exactly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.noise import GaussianNoise
from invdiff.operators import Separable
from invdiff.operators.base import LinearOperator
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import Iterate, Solver
from invdiff.space import Space
from invdiff.testing.solvers import affine_law

A_DIAGONAL = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
TRUE_MEAN, TRUE_STD = (0.9615, 0.9268, -0.3), (0.1961, 0.3123, 1.0)
Problem = InverseProblem[LinearOperator, GaussianNoise]


def prior_g(**ends: Any) -> GaussianPrior:  # noqa: ANN401 - ends of the ladder
    """Means (0, 0.5, -0.3), variances (1, 0.25, 1)."""
    mean = torch.tensor([[0.0, 0.5, -0.3]], dtype=torch.float64)
    return GaussianPrior(mean, torch.tensor([1.0, 0.25, 1.0], dtype=torch.float64), **ends)


def problem_g(
    a: Tensor = A_DIAGONAL, sigma: float = 0.2, y: tuple[float, ...] = (1.0, 0.6, 0.0), A: LinearOperator | None = None
) -> Problem:
    """Gains a = (1, 0.5, 0), noise 0.2, y = (1, 0.6, -)."""
    A = A or Separable(Space((1, 3), torch.float64), [torch.diag(a)])
    return InverseProblem(A, GaussianNoise(sigma), torch.tensor([[y]], dtype=torch.float64))


def law(solver: Any, problem: Problem) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - a DiffusionSolver of any header
    """Mean and standard deviation of the three modes, exact; the start is N(0, 1 + sigma_0^2)."""
    start = math.sqrt(1 + float(solver.sigmas(prior_g())[0]) ** 2)
    mean, std = affine_law(solver, problem, prior_g(), start)
    return mean[0], std[0]


class OneStream(Rng):
    """Fast draws for Monte Carlo: one generator for the whole batch."""

    def __init__(self, count: int, seed: int = 0) -> None:
        super().__init__([(0, i) for i in range(count)])
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, name: str, step: int, like: Tensor) -> Tensor:
        """The next numbers."""
        del name, step
        return torch.randn(like.shape, dtype=like.dtype, generator=self.generator)


def sample(solver: Solver[Any, Any, Any], problem: Problem, count: int, start: float | None = None) -> Tensor:
    """Samples (count, 3); the start is N(0, start^2), or as the golden table has it."""
    rng, prior = OneStream(count), prior_g()
    problem = problem.rows([0] * count)
    if start is None:
        start = math.sqrt(1 + float(solver.sigmas(prior)[0]) ** 2)  # type: ignore[attr-defined]
    z = start * rng.normal("start", 0, torch.empty(count, 1, 3, dtype=torch.float64))
    with torch.no_grad():
        *_, last = solver.iterate(problem, prior, rng, Iterate.before(z))
    return last.x[:, 0]


def z_scores(x: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mean and of the standard deviation of samples (N, modes), in their standard errors."""
    n = math.sqrt(len(x))
    return (x.mean(0) - mean) / (std / n), (x.std(0) - std) / (std / (n * math.sqrt(2)))
