"""RED-diff ends where its equations say; inverted noise is DDIM; particles push each other apart and nothing else."""

import math
from dataclasses import replace

import pytest
import torch

from invdiff.errors import ConfigError
from invdiff.operators import Diagonal
from invdiff.rng import Rng
from invdiff.solution import solve
from invdiff.solvers import RSD, Iterate, REDdiff
from invdiff.solvers.reddiff import WEIGHTS, _adam
from invdiff.space import Space
from invdiff.testing.golden import A_DIAGONAL, OneStream, prior_g, problem_g
from invdiff.verification import known
from invdiff.verification.fixed_points import POINTS

SGD = {"optimizer": "sgd", "order": "random", "schedule": "ddpm", "steps": 1000, "parity": "code", "lam": 0.25}


def stationary(weight, v, lam, levels):
    """The closed form: (v A^T A + lam K) mu = v A^T y + lam K m, K = mean of w sigma / (C + sigma^2), mode by mode."""
    prior, a, y = prior_g(), A_DIAGONAL, torch.tensor([1.0, 0.6, 0.0]).double()
    K = (WEIGHTS[weight](levels) * levels / (prior.variance[0][:, None] + levels**2)).mean(1)
    return (v * a * y + lam * K * prior.mean[0]) / (v * a**2 + lam * K)


@pytest.mark.parametrize(
    ("weight", "golden"), [("constant", (0.9464, 1.0090)), ("sqrt", (0.9250, 0.9865)), ("linear", (0.8467, 0.8832))]
)
def test_plain_gradient_steps_end_at_the_golden_row(weight, golden):
    solver = REDdiff(weight=weight, lr=0.05, **SGD)
    levels = solver.sigmas(prior_g())[:-1]
    want = stationary(weight, 1 / 3, 0.25 / 3, levels)
    torch.testing.assert_close(want[:2], torch.tensor(golden).double(), atol=1e-4, rtol=0)
    x = tail_average(solver, 2000)
    z = (x.mean(0) - want) / (x.std(0) / math.sqrt(len(x)))
    assert z[:2].abs().max() < 4


def tail_average(solver, count):
    """The mean over the last half of each run, started at the closed form's place for any weight: (count, 3)."""
    problem = problem_g().rows([0] * count)
    rng = OneStream(count)
    x = torch.tensor([0.9, 0.95, -0.3]).double().expand(count, 1, 3)
    long = replace(solver, lr=1.0)  # many units of the slowest mode
    total, taken = torch.zeros(count, 3).double(), 0
    with torch.no_grad():
        for it in long.iterate(problem, prior_g(), rng, Iterate.before(x)):
            if it.step >= solver.steps // 2:
                total, taken = total + it.x[:, 0], taken + 1
    return total / taken


def test_the_sum_form_has_the_closed_form_end():
    """On a correlated Gaussian and undersampled k-space, through the mean over many runs."""
    for case, (error, tolerance) in POINTS["reddiff"]().items():
        assert error < tolerance, case


def test_inverted_noise_without_data_is_ddim():
    """Plain steps of rate 1, linear weights: mu at each step is the clean estimate of deterministic DDIM."""
    space = Space((1, 3), torch.float64)
    problem = problem_g(A=Diagonal(space, torch.zeros(3).double()))
    solver = REDdiff(optimizer="sgd", noise="inverted", lr=1.0, steps=30, sigma_max=10.0, sigma_min=0.01)
    start = torch.zeros(1, 1, 3).double()
    rng = Rng([(3, 0)])
    found = [it.x for it in solver.iterate(problem, prior_g(), rng, Iterate.before(start))]
    ladder = solver.sigmas(prior_g()).tolist()
    z = start + ladder[0] * rng.normal("noise", 0, start)
    for mu, s0, s1 in zip(found, ladder[:-1], ladder[1:], strict=True):
        x0 = prior_g().denoise(z, torch.full((1,), s0).double())
        torch.testing.assert_close(mu, x0, atol=1e-6, rtol=0)
        z = x0 + s1 * (z - x0) / s0


def test_adam_is_torchs():
    g = torch.randn(5, 4, 1, 3, generator=torch.Generator().manual_seed(0)).double()
    p = torch.zeros(4, 1, 3).double().requires_grad_()
    reference = torch.optim.Adam([p], lr=0.1, betas=(0.9, 0.99))
    x = m = v = torch.zeros(4, 1, 3).double()
    for step in range(5):
        p.grad = g[step]
        reference.step()
        x, m, v = _adam(x, g[step], m, v, 0.1, step)
    torch.testing.assert_close(x, p.detach(), atol=1e-8, rtol=0)


def test_zero_noise_is_refused_unless_means_are_taken():
    with pytest.raises(ConfigError, match="REDdiff divides by the noise; give a small one, or --set parity=code"):
        solve(problem_g(sigma=0.0), prior_g(), REDdiff(steps=2))
    assert bool(torch.isfinite(solve(problem_g(sigma=0.0), prior_g(), REDdiff(steps=2, parity="code")).mean).all())


def ensemble(solver, seeds=range(4)):
    k = known()[3]
    return solve(k.problem, k.prior, solver, seeds=seeds).samples[:, 0].flatten(1)


def test_without_repulsion_particles_are_independent_runs():
    one, other = ensemble(RSD(steps=20, gamma=0.0)), ensemble(REDdiff(steps=20))
    assert torch.equal(one, other)


def test_pushes_cancel_in_the_mean():
    """Plain steps with a Gaussian prior are affine, so the mean of the particles obeys RED-diff's recursion."""
    settings = {"steps": 30, "optimizer": "sgd", "lr": 0.5}
    with_push, without = ensemble(RSD(gamma=3.0, **settings)), ensemble(RSD(gamma=0.0, **settings))
    assert (with_push - without).abs().max() > 1e-3
    torch.testing.assert_close(with_push.mean(0), without.mean(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("particles", [2, 4])
def test_the_spread_grows_with_gamma(particles):
    spreads = [
        float(ensemble(RSD(gamma=g, particles=particles, steps=50)).std(0).mean()) for g in (0.0, 1.0, 4.0, 16.0)
    ]
    assert spreads == sorted(spreads)
    assert spreads[-1] > 1.2 * spreads[0]
    assert math.isfinite(spreads[-1])


def test_a_particle_is_the_same_alone_and_in_any_company():
    solver = RSD(steps=5, particles=4)
    together = ensemble(solver, range(8))
    assert torch.equal(ensemble(solver, [6])[0], together[6])
    assert torch.equal(ensemble(solver, [5, 2]), together[[5, 2]])


def test_repulsion_fades_below_the_break():
    solver = RSD(sigma_break=0.1)
    mu = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(0)).double()
    high, low = (solver._repulsion(mu, torch.full((4,), s).double()) for s in (0.1, 0.01))
    ratio = (low.norm() / high.norm()) / (0.01 / math.sqrt(1.0001) / (0.1 / math.sqrt(1.01)))
    assert float(ratio) == pytest.approx(0.01, rel=1e-6)
