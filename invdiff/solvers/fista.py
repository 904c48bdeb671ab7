"""FISTA (Beck and Teboulle, SIAM J. Imaging Sci. 2009) for min 1/2 ||y - A x||^2 + w R(x)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from invdiff.noise.base import NoiseModel
from invdiff.operators.base import LinearOperator
from invdiff.problem import InverseProblem
from invdiff.solvers.base import Iterate


def fista(
    problem: InverseProblem[LinearOperator, NoiseModel],
    start: Iterate,
    prox: Callable[[Tensor, int, float], Tensor],
    iterations: int,
    *,
    fading: bool = False,
) -> Iterator[Iterate]:
    """Yield one iterate per step.

    Args:
        problem: A and y.
        start: where the run begins, or goes on; z is its memory.
        prox: of R: image, step number and 1 / ||A||^2 -> argmin_u ||u - x||^2 / 2 + w R(u) / ||A||^2.
        iterations: number of steps.
        fading: whether the momentum falls to 0 at the end, for a `prox` that differs from step to step.
    """
    A, L, b = problem.operator, problem.operator.norm2, problem.operator.adjoint(problem.y)
    x, t = start.x, 1.0
    z = start.memory[0] if start.memory else x
    for step in range(iterations):
        t_before, t = t, (1 + (1 + 4 * t**2) ** 0.5) / 2
        if step <= start.step:
            continue
        x_next = prox(z - (A.normal(z) - b) / L, step, 1 / L)
        momentum = (t_before - 1) / t
        if fading:
            momentum *= 1 - (step / iterations) ** 2
        z = x_next + momentum * (x_next - x)
        x = x_next
        yield Iterate(step, 0.0, x, x, (z,))
