"""The exact law of a solver that is an affine map of its noise: linear operator, Gaussian prior, no adaptive step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.priors.gaussian import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import solve
from invdiff.solvers.base import Iterate, Solver


class Impulses(Rng):
    """No noise in row 0, and in row i + 1 a unit draw at the i-th call only."""

    def __init__(self, rows: int) -> None:
        super().__init__([(0, i) for i in range(rows)])
        self.calls = 0

    def normal(self, name: str, step: int, like: Tensor) -> Tensor:
        """Zeros, but for the row that belongs to this call; its numbers are all 1: modes must not mix."""
        out = torch.zeros_like(like)
        self.calls += 1
        if self.calls < len(out):
            out[self.calls] = 1
        return out


def affine_law(
    solver: Solver[Any, Any, Any],
    problem: InverseProblem[Any, Any],
    prior: GaussianPrior,
    start_std: Tensor | float,
    start_mean: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the output, exact, when modes do not mix (all operators diagonal).

    Args:
        solver: one whose step is affine in state and noise.
        problem: P = 1.
        prior: diagonal in the same basis.
        start_std, start_mean: the run starts at N(start_mean, start_std^2); the golden table's mean is 0.

    Returns:
        mean and std, each of the shape of one image.
    """
    draws = Impulses(1)
    _last(solver, problem, prior, draws, torch.zeros((1, *prior.space.shape), dtype=prior.space.dtype))
    count = draws.calls + 2
    z = torch.zeros((count, *prior.space.shape), dtype=prior.space.dtype)
    z += start_mean
    z[-1] += start_std
    x = _last(solver, problem, prior, Impulses(count), z)
    return x[0], ((x[1:] - x[:1]) ** 2).sum(0).sqrt()


def _last(
    solver: Solver[Any, Any, Any], problem: InverseProblem[Any, Any], prior: GaussianPrior, rng: Rng, z: Tensor
) -> Tensor:
    with torch.no_grad():
        *_, last = solver.iterate(problem.rows([0] * len(z)), prior, rng, Iterate.before(z))
    return last.x


def check_resumes(
    solver: Solver[Any, Any, Any],
    problem: InverseProblem[Any, Any],
    prior: Any,  # noqa: ANN401 - any prior
) -> None:
    """From any of its iterates a run goes on to the bits of the unbroken run."""
    rng = Rng([(3, p) for p in range(len(problem.y))])
    with torch.no_grad():
        unbroken = list(solver.iterate(problem, prior, rng, Iterate.before(solver.start(problem, prior, rng))))
        assert [it.step for it in unbroken] == list(range(len(unbroken))), "steps are not counted from 0"
        for i, it in enumerate(unbroken[:-1]):
            rest = list(solver.iterate(problem, prior, rng, it))
            assert len(rest) == len(unbroken) - i - 1, f"after step {it.step} another number of steps is left"
            assert torch.equal(rest[-1].x, unbroken[-1].x), f"a run resumed after step {it.step} ends elsewhere"
            assert torch.equal(rest[-1].denoised, unbroken[-1].denoised), "its clean estimate is another"


def check_sample_independence(
    solver: Solver[Any, Any, Any],
    problem: InverseProblem[Any, Any],
    prior: Any,  # noqa: ANN401 - any prior
) -> None:
    """A sample alone equals the same sample in a batch, in any order, bit for bit; the same seed, the same sample."""
    together = solve(problem, prior, solver, seeds=(0, 1)).samples
    again = solve(problem, prior, solver, seeds=(0, 1)).samples
    last = len(problem.y) - 1
    alone = solve(problem.rows([last]), prior, solver, seeds=(1,), indices=[last]).samples
    turned = solve(problem.rows([last, 0]), prior, solver, seeds=(1, 0), indices=[last, 0]).samples
    assert torch.equal(together, again), "the same seeds gave other samples"
    assert torch.equal(alone[0, 0], together[1, last]), "a sample alone differs from the same sample in a batch"
    assert torch.equal(turned[0, 0], together[1, last]), "a sample changed with its place in the batch"
