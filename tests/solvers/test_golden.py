"""The golden table of problem G (algorithm sheet of the project): exact laws by affine recursion, and Monte Carlo."""

import math

import pytest
import torch

from invdiff.linalg import norm
from invdiff.priors.gaussian import posterior
from invdiff.schedules import ddpm
from invdiff.solvers import DPS, DiffPIR
from invdiff.testing.golden import A_DIAGONAL, law, prior_g, problem_g, sample
from invdiff.testing.solvers import affine_law

PUBLISHED = {"schedule": "ddpm", "steps": 100, "parity": "paper"}
ORDER = {1: "ddim", 2: "dpm2m"}


@pytest.mark.parametrize(
    ("lam", "zeta", "mean", "std"),
    [
        (1, 0.1, (0.9670, 1.0184), (0.1752, 0.2634, 0.9681)),
        (1, 0.3, (0.9646, 0.9902), (0.1714, 0.2639, 0.9377)),
        (1, 1.0, (0.9624, 0.9519), (0.1265, 0.2009, 0.6859)),
        (7, 0.3, (0.8167, 0.7133), (0.4118, 0.3995, 0.9377)),
    ],
)
def test_diffpir_as_published_is_its_golden_row(lam, zeta, mean, std):
    got_mean, got_std = law(DiffPIR(lam=lam, zeta=zeta, **PUBLISHED), problem_g())
    torch.testing.assert_close(got_mean[:2], torch.tensor(mean).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(got_mean[2], torch.tensor(-0.3).double(), atol=2.1e-3, rtol=0)
    torch.testing.assert_close(got_std, torch.tensor(std).double(), atol=1e-4, rtol=0)


def test_diffpir_monte_carlo_agrees_with_its_recursion():
    solver = DiffPIR(lam=1, zeta=0.3, **PUBLISHED)
    mean, std = law(solver, problem_g())
    x = sample(solver, problem_g(), 20_000)
    z_mean = (x.mean(0) - mean) / (std / math.sqrt(len(x)))
    z_std = (x.std(0) - std) / (std / math.sqrt(2 * len(x)))
    assert z_mean.abs().max() < 4
    assert z_std.abs().max() < 4


@pytest.mark.parametrize(
    ("tau", "zeta", "steps", "std"),
    [
        ("consistent", 0.0, 100, (0.9819, 0.4860, 0.9819)),
        ("consistent", 1.0, 100, (0.9600, 0.4683, 0.9600)),
        ("consistent", 1.0, 1000, (0.9955, 0.4961, 0.9955)),
        ("constant", 0.85**2, 100, (0.8513, 0.4195, 0.8513)),
    ],
)
def test_unconditional_rows(tau, zeta, steps, std):
    """With A = 0 only the prior is left: the transition's own golden rows."""
    solver = DiffPIR(schedule="ddpm", steps=steps, tau=tau, zeta=zeta, sampler="ddim")
    mean, got = law(solver, problem_g(a=torch.zeros(3).double()))
    torch.testing.assert_close(got, torch.tensor(std).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(mean, prior_g().mean[0], atol=2.1e-3, rtol=0)


def deficit(steps, order):
    solver = DiffPIR(steps=steps, sampler=ORDER[order], sigma_max=20.0, sigma_min=0.01)
    _, std = affine_law(solver, problem_g(a=torch.zeros(3).double()), prior_g(), math.sqrt(1 + 400))
    return float(1 - std[0, 0])


def test_deficit_of_spread_halves_when_steps_double():
    ratios = [deficit(n, 1) / deficit(2 * n, 1) for n in (50, 100, 200)]
    assert all(1.8 < r < 2.2 for r in ratios), ratios


def test_second_order_is_second_order():
    """Its bias (too wide, at few levels) falls four times as the levels double."""
    ratios = [deficit(n, 2) / deficit(2 * n, 2) for n in (50, 100)]
    assert all(3.5 < r < 5.0 for r in ratios), ratios
    assert abs(deficit(25, 2)) < deficit(25, 1) / 4
    assert -0.13 < deficit(12, 2) < 0


def test_constant_tau_samples_the_documented_narrow_law():
    """Many steps at constant tau: variance c (1 + sqrt(1 - tau)) / 2, here on a fine geometric ladder."""
    tau = 0.7
    solver = DiffPIR(steps=4000, tau="constant", zeta=tau, sampler="ddim", sigma_max=20.0, sigma_min=1e-3)
    _, std = affine_law(solver, problem_g(a=torch.zeros(3).double()), prior_g(), math.sqrt(401))
    want = (prior_g().variance * (1 + math.sqrt(1 - tau)) / 2).sqrt()
    torch.testing.assert_close(std, want.expand_as(std), rtol=0.01, atol=0)


@pytest.mark.parametrize("order", [1, 2])
def test_no_noise_and_full_measurement_gives_the_measurement(order):
    y = (1.0, 0.6, -2.0)
    solver = DiffPIR(sampler=ORDER[order])
    x = sample(solver, problem_g(torch.ones(3).double(), sigma=1e-6, y=y), 8)
    assert (x - torch.tensor(y)).abs().max() < 1e-3


def test_diffpir_second_order_is_near_the_truth():
    """The documented bias of rho = lam s^2 / sigma^2, and no more: mean within 0.1 and spread within 20 percent."""
    problem = problem_g()
    C = torch.diag(prior_g().variance[0])
    mean, cov = posterior(prior_g().mean[0], C, torch.diag(A_DIAGONAL), problem.y[0, 0], 0.2)
    got_mean, got_std = affine_law(DiffPIR(steps=50, sigma_max=50.0), problem, prior_g(), math.sqrt(1 + 2500))
    torch.testing.assert_close(got_mean[0], mean, atol=0.12, rtol=0)
    torch.testing.assert_close(got_std[0], cov.diagonal().sqrt(), rtol=0.2, atol=0)


@pytest.mark.parametrize(("zeta", "spread"), [(0.3, (0.16, 0.006)), (1.0, (0.53, 0.006))])
def test_dps_is_its_own_table(zeta, spread):
    """Norm-based DPS at 1000 levels: mean at pinv(y), a limit cycle of radius ~ zeta / 2, the null mode untouched."""
    count = 1500
    solver = DPS(schedule="ddpm", steps=1000, zeta=zeta)
    x = sample(solver, problem_g(), count)
    std = x.std(0)
    assert abs(float(x[:, 0].mean()) - 1.0) < 4 * spread[0] / math.sqrt(count) + 0.005
    assert abs(float(x[:, 1].mean()) - 1.2) < 0.005
    assert float(std[0]) == pytest.approx(spread[0], rel=0.08)
    assert float(std[1]) == pytest.approx(spread[1], rel=0.25)
    z = (float(x[:, 2].mean()) + 0.3) / (0.9955 / math.sqrt(count))
    assert abs(z) < 4
    assert abs(float(std[2]) - 0.9955) < 4 * 0.9955 / math.sqrt(2 * count)


def test_the_papers_zeta_of_dps_is_half_the_codes():
    """zeta' / ||r|| grad ||r||^2 = 2 zeta' grad ||r||."""
    ladder = {"schedule": "ddpm", "steps": 20}
    paper = sample(DPS(**ladder, zeta=0.2, parity="paper"), problem_g(), 8)
    assert torch.equal(paper, sample(DPS(**ladder, zeta=0.4), problem_g(), 8))


def test_dps_without_guidance_is_ddpm():
    got = sample(DPS(schedule="ddpm", steps=100, zeta=0.0), problem_g(), 20_000)
    std = torch.tensor([0.9600, 0.4683, 0.9600]).double()
    assert ((got.std(0) - std) / (std / math.sqrt(40_000))).abs().max() < 4


def test_ddpm_ladder():
    ladder = ddpm(100)
    assert float(ladder[0]) == pytest.approx(143.78, abs=0.01)
    assert float(ddpm(20)[0]) == pytest.approx(97.10, abs=0.01)
    assert float(ddpm(1000)[0]) == pytest.approx(157.41, abs=0.01)
    assert float(ladder[-2]) == pytest.approx(0.01, abs=1e-4)
    assert ladder[-1] == 0
    assert bool((ladder.diff() < 0).all())


def test_dps_norm_is_per_sample():
    problem = problem_g().rows([0, 0])
    assert norm(problem.y).shape == (2,)
