"""PiGDM and MMPS: exact posterior samplers where their closure is true, and golden rows where it is not."""

import math
from itertools import pairwise

import pytest
import torch

from invdiff.noise import GaussianNoise
from invdiff.operators import UndersampledFourier
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import MMPS, PiGDM
from invdiff.testing.golden import TRUE_MEAN, TRUE_STD, law, prior_g, problem_g, sample, z_scores
from invdiff.verification import distance, known

DDPM = {"schedule": "ddpm", "sampler": "ddim"}


def near(got, want, tolerance=1e-4):
    torch.testing.assert_close(got, torch.tensor(want).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("steps", "zeta", "mean", "std"),
    [
        (100, 0.0, (0.9603, 0.9249, -0.2980), (0.1838, 0.2994, 0.9819)),
        (100, 1.0, (0.9615, 0.9268, -0.3), (0.1710, 0.2842, 0.9600)),
        (1000, 1.0, (0.9615, 0.9268, -0.3), (0.1924, 0.3086, 0.9955)),
    ],
)
def test_mmps_is_exact_covariance_guidance(steps, zeta, mean, std):
    """Three conjugate gradient steps are exact on three modes."""
    got_mean, got_std = law_by_samples(MMPS(steps=steps, zeta=zeta, iterations=3, **DDPM))
    near(got_mean, mean)
    near(got_std, std)


def law_by_samples(solver):
    """The law of a solver that is affine in exact arithmetic: conjugate gradients solve for each row in full."""
    return law(solver, problem_g())


@pytest.mark.parametrize(
    ("parity", "steps", "mean", "std"),
    [
        ("safe", 1000, (0.9615, 0.8714, -0.3), (0.1924, 0.3195, 0.9955)),
        ("code", 100, (1.000, 1.174, -0.3), (0.0855, 0.1547, 0.96)),
        ("code", 1000, (1.000, 1.200, -0.3), (0.0505, 0.0822, 0.9955)),
    ],
)
def test_pigdm_is_its_golden_row(parity, steps, mean, std):
    solver = PiGDM(steps=steps, data_std=1.0, parity=parity, tau="consistent", **DDPM)
    got_mean, got_std = law(solver, problem_g())
    near(got_mean, mean, 6e-4)
    near(got_std, std)


@pytest.mark.parametrize("solver", [MMPS(steps=100, iterations=3, **DDPM), PiGDM(steps=100, data_std=1.0, **DDPM)])
def test_monte_carlo_agrees_with_the_recursion(solver):
    mean, std = law(solver, problem_g())
    z_mean, z_std = z_scores(sample(solver, problem_g(), 20_000), mean, std)
    assert z_mean.abs().max() < 4
    assert z_std.abs().max() < 4


def test_pigdm_is_exact_for_white_data():
    """Prior N(0, 1) mode by mode: the truth, and an error that halves as the steps double."""
    prior = GaussianPrior(torch.zeros(1, 3).double(), torch.ones(3).double())
    errors = []
    for steps in (100, 200, 400):
        solver = PiGDM(steps=steps, sigma_max=100.0, sigma_min=1e-3, sampler="ddim")
        errors.append(deviation(solver, prior))
    assert all(1.7 < a / b < 2.3 for a, b in pairwise(errors)), errors


@pytest.mark.parametrize(("sampler", "low", "high"), [("ddim", 1.7, 2.3), ("dpm2m", 3.2, 5.2), ("heun", 3.2, 5.2)])
def test_the_error_of_mmps_falls_with_the_order_of_its_sampler(sampler, low, high):
    """Deterministic runs: halved by the first order, quartered by the second, as the steps double."""
    errors = [
        deviation(MMPS(steps=n, zeta=0.0, iterations=3, sampler=sampler, sigma_max=50.0, sigma_min=1e-3), prior_g())
        for n in (40, 80, 160)
    ]
    assert all(low < a / b < high for a, b in pairwise(errors)), errors


def deviation(solver, prior):
    """Largest error of the spread of any mode."""
    from invdiff.testing.solvers import affine_law

    problem = problem_g()
    truth = 1 / (1 / prior.variance[0] + torch.tensor([1.0, 0.25, 0.0]).double() / 0.04)
    top = float(solver.sigmas(prior)[0])
    _, std = affine_law(solver, problem, prior, (prior.variance + top**2).sqrt())
    return float((std[0] - truth.sqrt()).abs().max())


def test_mmps_reaches_the_truth():
    solver = MMPS(steps=60, iterations=3, sigma_max=50.0, sigma_min=1e-3)
    x = sample(solver, problem_g(), 20_000, start=math.sqrt(1 + 2500))
    z_mean, z_std = z_scores(x, torch.tensor(TRUE_MEAN).double(), torch.tensor(TRUE_STD).double())
    assert z_mean.abs().max() < 4
    assert z_std.abs().max() < 5  # 60 levels leave the spread within one per cent


@pytest.mark.parametrize("name", ["gaussian, blur", "gaussian, mri", "mixture, inpaint"])
def test_mmps_on_correlated_and_two_humped_priors(name):
    k = next(k for k in known() if k.name == name)
    x = solve(k.problem, k.prior, MMPS(steps=40, iterations=8), seeds=range(1000), width=1000).samples[:, 0].flatten(1)
    found = distance(k, x)
    assert found.mean < 0.09
    assert abs(found.std - 1) < 0.05
    assert abs(found.chi2 - 1) < 0.05
    assert found.wasserstein < 0.03


@pytest.mark.parametrize("cls", [MMPS, PiGDM])
def test_no_noise_fits_complex_data(cls):
    k = known()[3]
    assert isinstance(k.problem.operator, UndersampledFourier)
    x = k.prior.sample(torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(5)).double())
    clean = InverseProblem(k.problem.operator, GaussianNoise(0.0), k.problem.operator(x))
    x = solve(clean, k.prior, cls(), seeds=range(4), width=4).samples
    residual = clean.rows([0] * 4).residual_norm2(x[:, 0]).sqrt() / clean.y.norm()
    assert residual.max() < 0.02


class SteepGaussian(GaussianPrior):
    """Denoises as it should, but its Jacobian is a hundred times too large, as a network's is at high noise."""

    def denoise(self, x, sigma):
        D = super().denoise(x, sigma)
        return D + 99 * (D - D.detach())


def test_pigdm_does_not_step_past_the_data():
    """Where the Jacobian is too large the step ends at the least residual."""
    problem, exact = problem_g(), prior_g()
    A, y, sigma = problem.operator, problem.y, torch.full((1,), 4.0).double()
    x = 4.0 * torch.randn(1, *A.domain.shape, generator=torch.Generator().manual_seed(2)).double()
    moved = PiGDM().estimate(problem, SteepGaussian(exact.mean, exact.variance), x, 4.0, 3.0).x0
    x0 = exact.denoise(x, sigma)
    step, after = moved - x0, (y - A(moved)).norm()
    assert after < (y - A(x0)).norm()
    for longer in (0.99, 1.01):
        assert (y - A(x0 + longer * step)).norm() > after
    assert step.norm() < 99 * (PiGDM().estimate(problem, exact, x, 4.0, 3.0).x0 - x0).norm()
