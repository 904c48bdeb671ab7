"""Point estimators: where each ends, from closed forms, and how far from there it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from invdiff.noise import GaussianNoise
from invdiff.operators import Identity
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import CG, TV, Adjoint, Direct, PnP, REDdiff, Solver, Wavelet
from invdiff.solvers.reddiff import WEIGHTS
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


def wavelet() -> Errors:
    """Without a weight, least squares; a constant image, which has no detail, is left alone by any weight."""
    k = next(k for k in known() if k.name == "gaussian, denoise")
    errors = {k.name: (_error(k, Wavelet(weight=0.0, iterations=20), _y(k)), 1e-8)}
    flat = InverseProblem(
        Identity(k.prior.space), GaussianNoise(0.1), torch.full((1, *k.prior.space.shape), 0.3).double()
    )
    found = solve(flat, None, Wavelet(weight=0.1, iterations=20), width=1).samples
    return errors | {"a constant": (float((found - 0.3).abs().max()), 1e-6)}


def pnp() -> Errors:
    """ADMM with gamma = sd^2 ends at the posterior mean, whatever the strength of the denoiser."""
    solver = PnP(variant="admm", sigma=0.2, sigma_max=None, iterations=400, cg_iterations=100)
    return {k.name: (_error(k, solver, k.mean), 1e-3) for k in _gaussian()}


def reddiff() -> Errors:
    """(A^T A / s^2 + lam K) mu = A^T y / s^2 + lam K m, K = mean of w sigma (C + sigma^2)^-1; the mean of 100 runs."""
    solver = REDdiff(optimizer="sgd", order="random", lr=1.0, steps=300, sigma_min=0.1)
    return {k.name: (_mean_error(k, solver, _stationary(k, solver)), 0.02) for k in _gaussian() if "blur" not in k.name}


def _stationary(k: Known, solver: REDdiff) -> Tensor:
    prior = cast(GaussianPrior, k.prior)
    levels = solver.sigmas(prior)[:-1]
    gains = (WEIGHTS[solver.weight](levels) * levels / (prior.variance.flatten()[:, None] + levels**2)).mean(1)
    K = matrix(lambda x: prior.synthesis(gains.reshape(prior.space.shape) * prior.analysis(x)))
    A, v, m = _matrix(k), 1 / k.problem.noise.sigma**2, prior.mean.flatten()
    return torch.linalg.solve(v * A.T @ A + solver.lam * K, v * A.T @ _y(k) + solver.lam * K @ m)


POINTS: dict[str, Callable[[], Errors]] = {
    "adjoint": adjoint,
    "cg": cg,
    "direct": direct,
    "pnp": pnp,
    "reddiff": reddiff,
    "tv": tv,
    "wavelet": wavelet,
}


def _error(k: Known, solver: Solver[Any, Any, Any], want: Tensor) -> float:
    needs = solver.requirements()[2] is not type(None)
    found = solve(k.problem, k.prior if needs else None, solver, width=1).samples.flatten()
    return float((found - want).norm() / want.norm())


def _mean_error(k: Known, solver: Solver[Any, Any, Any], want: Tensor) -> float:
    runs = solve(k.problem, k.prior, solver, seeds=range(100), width=100).samples[:, 0].flatten(1)
    return float((runs.mean(0) - want).norm() / want.norm())


def _gaussian() -> list[Known]:
    return [k for k in known() if isinstance(k.prior, GaussianPrior)]


def _matrix(k: Known) -> Tensor:
    return matrix(k.problem.operator)


def _y(k: Known) -> Tensor:
    return reals(k.problem.y)[0]
