"""Point estimators: where each ends, from closed forms, and how far from there it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invdiff.noise import GaussianNoise
from invdiff.operators import Identity
from invdiff.problem import InverseProblem
from invdiff.solve import solve
from invdiff.solvers import CG, TV, Adjoint, Direct, Solver
from invdiff.space import Space
from invdiff.verification.problems import Known, known, matrix, reals

Errors = dict[str, tuple[float, float]]  # of each case: what was found, and the tolerance


def adjoint() -> Errors:
    """A^H y is the transpose of A's matrix times y."""
    return {k.name: (_error(k, Adjoint(), _matrix(k).T @ _y(k)), 1e-10) for k in known()}


def direct() -> Errors:
    """Where the singular values are 1, the direct reconstruction is the pseudo-inverse."""
    cases = [k for k in known() if "blur" not in k.name]
    return {k.name: (_error(k, Direct(), torch.linalg.pinv(_matrix(k)) @ _y(k)), 1e-8) for k in cases}


def cg() -> Errors:
    """Conjugate gradients end at the least-squares solution of least norm."""
    return {k.name: (_error(k, CG(iterations=500), torch.linalg.pinv(_matrix(k)) @ _y(k)), 1e-4) for k in known()}


def tv() -> Errors:
    """Denoising a step of n1 and n2 voxels by TV moves its sides towards each other, by weight / n1 and weight / n2."""
    n1, n2, weight = 6, 10, 0.1
    step = torch.cat([torch.zeros(n1), torch.ones(n2)]).double()
    want = torch.cat([torch.full((n1,), weight / n1), torch.full((n2,), 1 - weight / n2)]).double()
    space = Space((1, n1 + n2), torch.float64)
    problem = InverseProblem(Identity(space), GaussianNoise(0.1), step[None, None])
    found = solve(problem, None, TV(weight=weight, iterations=20), width=1).samples.flatten()
    return {"a step": (float((found - want).abs().max()), 1e-3)}


POINTS: dict[str, Callable[[], Errors]] = {"adjoint": adjoint, "direct": direct, "cg": cg, "tv": tv}


def _error(k: Known, solver: Solver[Any, Any, Any], want: Tensor) -> float:
    needs = solver.requirements()[2] is not type(None)
    found = solve(k.problem, k.prior if needs else None, solver, width=1).samples.flatten()
    return float((found - want).norm() / want.norm())


def _matrix(k: Known) -> Tensor:
    return matrix(k.problem.operator)


def _y(k: Known) -> Tensor:
    return reals(k.problem.y)[0]
