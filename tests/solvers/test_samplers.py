"""Samplers: the same numbers under other names, orders of convergence, ladders, units."""

import math
from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

from invdiff.errors import ConfigError
from invdiff.noise import GaussianNoise
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.schedules import ddpm, flow, karras, quad
from invdiff.solution import solve
from invdiff.solvers import DAPS, DDNM, DDRM, DDS, MMPS, DiffPIR, FlowDPS, Iterate, PiGDM, PnP, PnPDM
from invdiff.solvers.samplers import Estimate, ddim, dpm2m, heun
from invdiff.testing.golden import OneStream, prior_g
from invdiff.verification import known
from invdiff.verification.problems import gaussian


def denoiser(prior):
    def denoise(x, step, s0, s1):
        del step, s1
        x0 = prior.denoise(x, torch.full((len(x),), s0, dtype=x.dtype))
        return Estimate(x0, (x - x0) / s0)

    return denoise


def levels(ladder):
    return [(i, s0, s1) for i, (s0, s1) in enumerate(pairwise(ladder.tolist()))]


def end(walk):
    *_, last = walk
    return last.x


def test_ddim_euler_flow_and_alpha_blending_are_the_same_numbers():
    """On equal levels, in float64, over 40 steps: each written in its own coordinates."""
    prior, ladder = prior_g(), karras(40, 0.002, 80.0)
    z0 = 80.0 * torch.randn(3, 1, 3, generator=torch.Generator().manual_seed(0)).double()
    ours = end(
        ddim(denoiser(prior), levels(ladder), Iterate.before(z0), Rng([(0, i) for i in range(3)]), tau=lambda a, b: 0.0)
    )

    def D(z, sigma):
        return prior.denoise(z, torch.full((3,), sigma, dtype=torch.float64))

    euler = z0
    x_ddim = z0 / math.sqrt(1 + 80.0**2)
    x_flow, x_iadb = z0 / 81.0, z0 / 81.0
    for s0, s1 in pairwise(ladder.tolist()):
        euler = euler + (s1 - s0) * (euler - D(euler, s0)) / s0
        (a0, b0), (a1, b1) = ((1 / math.sqrt(1 + s**2), s / math.sqrt(1 + s**2)) for s in (s0, s1))
        x0 = D(x_ddim / a0, s0)
        x_ddim = a1 * x0 + b1 * (x_ddim - a0 * x0) / b0
        t0, t1 = s0 / (1 + s0), s1 / (1 + s1)
        velocity = (x_flow - D(x_flow / (1 - t0), s0)) / t0
        x_flow = x_flow + (t1 - t0) * velocity
        a0, a1 = 1 - t0, 1 - t1
        towards = (D(x_iadb / a0, s0) - x_iadb) / (1 - a0)
        x_iadb = x_iadb + (a1 - a0) * towards
    for other in (euler, x_ddim, x_flow, x_iadb):
        torch.testing.assert_close(ours, other, atol=1e-11, rtol=0)


def ode_error(walk, n):
    """Against the probability flow's closed form m + sqrt(c / (c + sigma^2)) (z - m)."""
    prior = prior_g()
    z = 80.0 * torch.randn(200, 1, 3, generator=torch.Generator().manual_seed(1)).double()
    want = prior.mean + (prior.variance / (prior.variance + 80.0**2)).sqrt() * (z - prior.mean)
    x = walk(denoiser(prior), levels(karras(n, 0.002, 80.0)), Iterate.before(z), OneStream(200))
    return float((end(x) - want).abs().max())


WALKS = {
    "euler": lambda *a: ddim(*a, tau=lambda s0, s1: 0.0),
    "dpm2m": lambda *a: dpm2m(*a, tau=lambda s0, s1: 0.0),
    "heun": lambda *a: heun(*a, churn=0.0),
}


@pytest.mark.parametrize(("name", "low", "high"), [("euler", 1.8, 2.2), ("dpm2m", 3.4, 5.0), ("heun", 3.4, 5.0)])
def test_orders(name, low, high):
    errors = [ode_error(WALKS[name], n) for n in (40, 80, 160)]
    assert all(low < a / b < high for a, b in pairwise(errors)), errors


def test_second_order_beats_first_at_equal_calls():
    assert ode_error(WALKS["dpm2m"], 80) < ode_error(WALKS["euler"], 80) / 8
    assert ode_error(WALKS["heun"], 40) < ode_error(WALKS["euler"], 80) / 4


def test_churn_keeps_the_law():
    """Added noise is taken out again: the spread stays that of the prior, without it too."""
    prior = prior_g()
    for churn in (0.0, 0.3):
        rng = OneStream(20_000)
        z = prior.mean + (prior.variance + 80.0**2).sqrt() * rng.normal("", 0, torch.empty(20_000, 1, 3).double())
        x = end(heun(denoiser(prior), levels(karras(60, 0.002, 80.0)), Iterate.before(z), rng, churn=churn))[:, 0]
        z_std = (x.std(0) / prior.std[0] - 1) * math.sqrt(40_000)
        assert z_std.abs().max() < 4


def test_flow_euler_from_pure_noise_is_of_first_order():
    """Towards sqrt(c) e, from t = 1."""
    prior = GaussianPrior(torch.zeros(1, 3).double(), torch.tensor([1.0, 0.25, 1.0]).double())
    z = torch.full((1, 1, 3), 1e6).double()
    start = Iterate.before(z)
    walks = [
        ddim(denoiser(prior), levels(flow(n, 1e6)), start, OneStream(1), tau=lambda *_: 0.0) for n in (28, 112, 448)
    ]
    errors = [float((end(x) - prior.std).abs().max()) for x in walks]
    assert errors[0] < 0.059
    assert all(3.7 < a / b < 4.3 for a, b in pairwise(errors)), errors


def test_ladders_descend_to_zero():
    for ladder in (karras(20, 0.01, 50.0), ddpm(20), quad(20), flow(20, 50.0), flow(20, 50.0, shift=4.0)):
        assert len(ladder) == 21
        assert ladder[-1] == 0
        assert bool((ladder.diff() < 0).all())


def test_quad_is_dense_at_low_noise():
    ladder = quad(100)
    assert float(ladder[0]) == pytest.approx(float(ddpm(1000)[0]))
    assert float(ladder[-2]) == pytest.approx(0.01, abs=1e-4)
    assert ladder[50] < ddpm(100)[50]
    full = ddpm(1000)[:-1]
    assert all(float((full - s).abs().min()) < 1e-12 for s in ladder[:-1])


SCALED = [DiffPIR(), DDS(), DDNM(steps=8), DDRM(), PiGDM(steps=6), MMPS(steps=4), FlowDPS(schedule="karras", steps=6),
          DAPS(steps=5), PnPDM(steps=4, inner=3), PnP(iterations=4)]  # fmt: skip


@pytest.mark.parametrize("solver", SCALED, ids=lambda s: type(s).__name__)
def test_units_do_not_matter(solver):
    """Image, operator and noise levels in other units: the same result in those units."""
    c = 4.0
    k = next(k for k in known() if k.name == "gaussian, mri")
    A = k.problem.operator
    g = gaussian()
    big = GaussianPrior(c * g.mean, c**2 * g.variance, analysis=g.analysis, synthesis=g.synthesis,
                        sigma_min=c * g.sigma_min, sigma_max=c * g.sigma_max)  # fmt: skip
    problem = InverseProblem(A, GaussianNoise(c * k.problem.noise.sigma), c * k.problem.y)
    lengths = ("sigma", "sigma_max", "sigma_min", "inner_sigma_min", "ode_sigma_min")
    mine = {f.name: c * getattr(solver, f.name) for f in fields(solver)
            if f.name in lengths and getattr(solver, f.name) is not None}  # fmt: skip
    small = solve(k.problem, g, solver, seeds=range(3)).samples
    large = solve(problem, big, replace(solver, **mine), seeds=range(3)).samples
    torch.testing.assert_close(large, c * small, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", [
    {"sigma_max": 0.001}, {"sigma_max": 0.007}, {"sigma_max": math.inf}, {"schedule": "flow", "sigma_max": math.inf},
    {"schedule": "ddpm", "steps": 1001}, {"schedule": "quad", "steps": 1200},
])  # fmt: skip
def test_levels_that_do_not_descend_are_refused(settings):
    prior = gaussian()
    with pytest.raises(ConfigError, match=r"steps: a ladder (descends and ends in 0; sigma_max must be|holds finite)"):
        DiffPIR(**settings).sigmas(prior)


@pytest.mark.parametrize("steps", [1, 7, 100, 600, 1000])
def test_a_strided_ladder_spans_all_levels(steps):
    sigmas = ddpm(steps)
    assert len(sigmas) == steps + 1
    assert float(sigmas[-2]) == pytest.approx(0.01, rel=1e-3)
    assert steps < 7 or float(sigmas[0]) > 25
