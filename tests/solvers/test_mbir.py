"""DiffusionMBIR: its two steps in closed form, and its law on Gaussian volumes."""

import math
from dataclasses import replace

import pytest
import torch

from invdiff.linalg import dot, norm, rows
from invdiff.noise import GaussianNoise
from invdiff.operators import Diagonal, Identity, Mask
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import Iterate
from invdiff.solvers.mbir import DiffusionMBIR
from invdiff.solvers.pc import corrected, predicted
from invdiff.space import Space

SPACE = Space((1, 20, 20, 20), torch.float64)
MEASURED = torch.arange(20) % 2 == 0


class Asked(GaussianPrior):
    """Notes the levels at which it is asked."""

    def denoise(self, x, sigma):
        self.levels = [*getattr(self, "levels", []), float(sigma[0])]
        return super().denoise(x, sigma)


def flat(variance=0.25, space=SPACE):
    return Asked(
        torch.full(space.shape, 0.4).double(), torch.tensor(variance).double(), sigma_min=0.002, sigma_max=50.0
    )


def test_the_predictor_ends_at_the_clean_estimate():
    x, x0, xi = torch.randn((3, 2, *SPACE.shape), generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(predicted(x, x0, 0.3, 0.0), x0, atol=1e-14, rtol=0)
    torch.testing.assert_close(predicted(x, x0, 0.5, 0.3, xi), x + 0.64 * (x0 - x) + 0.4 * xi)


def test_the_corrector_widens_a_gaussian_by_a_quarter_of_a_percent():
    """e = 2 snr^2 v of a state of variance v, and v (1 - e/v)^2 + 2 e = v (1 + 4 snr^4): exact for ideal draws."""
    prior, sigma, snr = flat(), 0.7, 0.16
    x, xi = torch.randn((2, 3, *SPACE.shape), generator=torch.Generator().manual_seed(0)).double()
    v, n = 0.25 + sigma**2, x[0].numel()
    x = x * rows(math.sqrt(v * n) / norm(x), x)
    xi = xi - rows(dot(xi, x) / dot(x, x), x) * x  # no chance correlation, no chance size
    xi = xi * rows(math.sqrt(n) / norm(xi), x)
    out = corrected(0.4 + x, prior.denoise(0.4 + x, torch.full((3,), sigma).double()), sigma, snr, xi)
    torch.testing.assert_close(norm(out - 0.4) ** 2 / n, torch.full((3,), v * (1 + 4 * snr**4)).double())


def recursion(solver, prior):
    """Mean and variance of a voxel that is not measured, step by step."""
    c, (m, v) = 0.25, (0.4, float((prior.std[0, 0, 0, 0] ** 2) + solver.sigma_max**2))
    for _, s0, s1 in solver.levels(prior, Iterate.before(torch.zeros(()))):
        G2 = s0**2 - s1**2
        m, v = m + G2 / (c + s0**2) * (0.4 - m), (1 - G2 / (c + s0**2)) ** 2 * v + (G2 if s1 else 0.0)
    return m, v


def test_without_total_variation_what_is_not_measured_has_the_predictors_law():
    """No weight and next to no penalty: measured voxels end at the data, each other one walks by itself."""
    prior, A = flat(), Mask(SPACE, MEASURED)
    solver = DiffusionMBIR(steps=40, lam=0.0, rho=1e-12)
    y = A(torch.rand((1, *SPACE.shape), generator=torch.Generator().manual_seed(0)).double())
    x = solve(InverseProblem(A, GaussianNoise(0.01), y), prior, solver, width=1).samples[0]
    torch.testing.assert_close(A(x), y, atol=1e-6, rtol=0)
    mean, variance = recursion(solver, prior)
    free = x[..., ~MEASURED]
    n = free.numel()
    assert abs(float(free.mean()) - mean) < 4 * math.sqrt(variance / n)
    assert abs(float(free.var()) / variance - 1) < 4 * math.sqrt(2 / n)
    assert recursion(replace(solver, steps=2000), prior)[1] == pytest.approx(0.25, rel=0.01), "the prior's in the limit"


def test_safe_weights_are_in_units_of_the_operator():
    prior, x = flat(), torch.rand((1, *SPACE.shape), generator=torch.Generator().manual_seed(0)).double()
    A, B = Mask(SPACE, MEASURED), Diagonal(SPACE, 7.0 * MEASURED.double())

    def run(A, parity):
        problem = InverseProblem(A, GaussianNoise(0.01), A(x))
        return solve(problem, prior, DiffusionMBIR(steps=10, parity=parity), width=1).samples

    torch.testing.assert_close(run(A, "safe"), run(B, "safe"), atol=1e-8, rtol=0)
    assert (run(A, "paper") - run(B, "paper")).abs().max() > 0.01


@pytest.mark.parametrize("parity", ["safe", "code"])
def test_the_corrector_asks_at_the_level_it_is_on(parity):
    """The published code asks at the one before; the last level has no corrector, since nothing follows it."""
    space = Space((1, 4, 4, 4), torch.float64)
    prior, solver = flat(space=space), DiffusionMBIR(steps=3, corrector=True, parity=parity)
    solve(InverseProblem(Identity(space), GaussianNoise(0.1), torch.zeros((1, *space.shape)).double()), prior, solver)
    a, b, c, _ = solver.sigmas(prior).tolist()
    assert prior.levels == pytest.approx([a, b, b, c, c] if parity == "safe" else [a, a, b, b, c])
    assert len(prior.levels) == solver.nfe
