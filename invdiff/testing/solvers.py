"""The exact law of a solver that is an affine map of its noise: linear operator, Gaussian prior, no adaptive step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.priors.gaussian import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solve import solve
from invdiff.solvers.base import DiffusionSolver


class Impulses(Rng):
    """No noise in row 0, and in row i + 1 a unit draw at step i only."""

    def normal(self, name: str, step: int, like: Tensor) -> Tensor:
        """Zeros, but for the row that belongs to this step."""
        out = torch.zeros_like(like)
        out[step + 1] = 1
        return out


def affine_law(
    solver: DiffusionSolver[Any, Any],
    problem: InverseProblem[Any, Any],
    prior: GaussianPrior,
    start_std: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the output, exact, when modes do not mix (all operators diagonal).

    Args:
        solver: one whose step is affine in state and noise; it draws once per step.
        problem: P = 1.
        prior: diagonal in the same basis.
        start_std: the run starts at N(0, start_std^2), as the golden table does.

    Returns:
        mean and std, each of the shape of one image.
    """
    steps = solver.length
    rng = Impulses([(0, i) for i in range(steps + 2)])
    z = torch.zeros((steps + 2, *prior.space.shape), dtype=prior.space.dtype)
    z[-1] = start_std
    with torch.no_grad():
        *_, last = solver.iterate(problem.rows([0] * (steps + 2)), prior, rng, z)
    response = last.x[1:] - last.x[:1]
    return last.x[0], (response**2).sum(0).sqrt()


def check_sample_independence(
    solver: DiffusionSolver[Any, Any],
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
