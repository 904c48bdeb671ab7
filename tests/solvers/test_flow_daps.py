"""FlowDPS, DAPS and PnP-DM: golden rows, truth oracles, the operators that are not linear."""

import math
from dataclasses import replace

import pytest
import torch

from invdiff.errors import ConfigError
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity, Operator
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.schedules import flow
from invdiff.solution import solve
from invdiff.solvers import DAPS, FlowDPS, Iterate, PnPDM
from invdiff.space import Space
from invdiff.testing.golden import TRUE_MEAN, TRUE_STD, law, problem_g, sample, z_scores
from invdiff.verification import distance, known

PURE = {"sigma_max": 1e6, "parity": "paper", "sampler": "ddim"}
ANN200 = {"steps": 200, "sigma_max": 100.0, "sigma_min": 0.1}


def near(got, want, tolerance=1e-4):
    torch.testing.assert_close(got, torch.tensor(want).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"data_step": "prox"}, (0.8956, 0.9774, -0.3), (0.2496, 0.2134, 0.8420)),
        ({"data_step": "gradient", "step": 0.5}, (0.8801, 0.7664, -0.3), (0.2679, 0.3045, 0.8420)),
    ],
)
def test_flowdps_as_published_is_its_golden_row(settings, mean, std):
    got_mean, got_std = law(FlowDPS(**settings, **PURE), problem_g())
    near(got_mean, mean)
    near(got_std, std)


def test_flowdps_without_data_has_the_narrow_law_of_its_noise():
    mean, std = law(FlowDPS(data_step="gradient", step=1e-12, **PURE), problem_g())
    near(mean, (0.0, 0.5, -0.3))
    near(std, (0.8420, 0.3992, 0.8420))


def test_flowdps_safe_is_exact_where_the_closure_is():
    """Prior of independent voxels, deterministic, 600 levels: within 0.003 of the truth."""
    mean, std = law(FlowDPS(steps=600, zeta=0.0, sigma_max=1e4, sampler="ddim"), problem_g())
    near(mean, TRUE_MEAN, 3e-3)
    near(std, TRUE_STD, 3e-3)


def test_flowdps_norm_gradient_steps_have_their_length():
    """One inner step moves the clean estimate of an identity by `step` towards y."""
    problem = problem_g(A=Identity(Space((1, 3), torch.float64)), y=(5.0, 5.0, 5.0))
    solver = FlowDPS(data_step="norm-gradient", step=0.3, inner=1)
    x0 = torch.zeros(1, 1, 3).double()
    moved = solver._data_step(problem, x0, torch.tensor(1.0))
    torch.testing.assert_close(moved, torch.full((1, 1, 3), 0.3 / math.sqrt(3)).double())


@pytest.mark.parametrize("solver", [FlowDPS(**PURE), DAPS(**ANN200), DAPS(**ANN200, parity="paper")])
def test_monte_carlo_agrees_with_the_recursion(solver):
    mean, std = law(solver, problem_g())
    z_mean, z_std = z_scores(sample(solver, problem_g(), 10_000), mean, std)
    assert z_mean.abs().max() < 4
    assert z_std.abs().max() < 4


def test_flow_ladder_is_the_times_of_a_flow():
    ladder = flow(28, 1e6)
    t = ladder / (1 + ladder)
    torch.testing.assert_close(t, torch.linspace(1, 0, 29, dtype=torch.float64), atol=1e-5, rtol=0)
    shifted = flow(4, 1e6, shift=3.0)
    torch.testing.assert_close(
        shifted / (1 + shifted), torch.tensor([1, 0.9, 0.75, 0.5, 0]).double(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({}, TRUE_MEAN, TRUE_STD),
        ({"parity": "paper", "ode_steps": 1}, (0.9621, 0.9400, -0.3), (0.1957, 0.3117, 1.0167)),
        ({"parity": "paper"}, (0.9766, 1.0135, -0.3), (0.1974, 0.3391, 1.2895)),
    ],
)
def test_daps_is_its_golden_row(settings, mean, std):
    got_mean, got_std = law(DAPS(**ANN200, **settings), problem_g())
    near(got_mean, mean, 3e-3 if settings == {"parity": "paper"} else 1e-4)
    near(got_std, std, 3e-3 if settings == {"parity": "paper"} else 1e-4)


class ExactFlow(DAPS):
    """DAPS whose inner equation is solved to its end."""

    def _centre(self, prior, x, sigma):
        return prior.mean + (prior.variance / (prior.variance + sigma**2)).sqrt() * (x - prior.mean)


def test_daps_with_its_inner_equation_solved_is_its_golden_row():
    mean, std = law(ExactFlow(**ANN200, parity="paper"), problem_g())
    near(mean, (0.9806, 1.0388, -0.3))
    near(std, (0.1978, 0.3476, 1.4551))


def test_daps_code_doubles_the_precision_of_the_data():
    """As if the noise were s / sqrt(2), with y as it is."""
    a = law(DAPS(**ANN200, parity="code"), problem_g())
    b = law(DAPS(**ANN200, parity="paper"), problem_g(sigma=0.2 / math.sqrt(2)))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_daps_with_exact_covariance_reaches_the_truth_at_any_number_of_levels():
    for steps in (5, 20):
        x = sample(DAPS(steps=steps, sigma_max=100.0, sigma_min=0.02), problem_g(), 20_000)
        z_mean, z_std = z_scores(x, torch.tensor(TRUE_MEAN).double(), torch.tensor(TRUE_STD).double())
        assert z_mean.abs().max() < 4
        assert z_std.abs().max() < 4


class Same(Operator):
    """The identity, hidden: an operator of which nothing but its values is known."""

    def __init__(self, gain=1.0, power=1):
        super().__init__()
        self.domain = self.range = Space((1, 3), torch.float64)
        self.gain, self.power = gain, power

    def forward(self, x):
        return self.gain * x**self.power


def test_langevin_draws_the_law_of_the_exact_draw_but_for_its_known_bias():
    """On a quadratic of precision p Langevin's variance is (1/p) / (1 - h p / 2)."""
    prior = GaussianPrior(torch.zeros(1, 3).double(), torch.ones(3).double())
    noise = GaussianNoise(0.5)
    problem = InverseProblem(Same(), noise, torch.tensor([[[1.0, -1.0, 0.0]]]).double())
    solver = DAPS(steps=6, sigma_max=10.0, sigma_min=0.5, langevin_rate=0.2, langevin_steps=40)
    x = solve(problem, prior, solver, seeds=range(1500), width=1500).samples[:, 0, 0]
    want = problem.y[0, 0] / 1.25
    assert ((x.mean(0) - want).abs() < 4 * x.std(0) / math.sqrt(1500) + 0.01).all()
    r2 = 0.5**2 / 1.25  # of the last level, where sigma = 0.5
    p = 1 / 0.25 + 1 / r2
    inner = (1 / p) / (1 - 0.2 / 2)
    shrink = (1 / r2) / p * 1 / 1.25
    state = 0.2 + 0.25  # posterior variance and the last level's
    assert float(x.var(0).mean()) == pytest.approx(inner + shrink**2 * state, rel=0.08)


def test_daps_on_an_operator_that_is_not_linear():
    prior = GaussianPrior(torch.full((1, 3), 1.0).double(), torch.full((3,), 0.05).double())
    truth = torch.tensor([[[0.9, 1.1, 1.3]]]).double()
    problem = InverseProblem(Same(power=2), GaussianNoise(0.05), truth**2)
    x = solve(problem, prior, DAPS(steps=15), seeds=range(64), width=64).samples[:, 0]
    assert (x.mean(0) - truth[0]).abs().max() < 0.03
    with pytest.raises(ConfigError, match="draws by Langevin steps here and needs noise > 0"):
        solve(replace(problem, noise=GaussianNoise(0.0)), prior, DAPS(steps=2))


def test_pnpdm_at_a_fixed_coupling_is_its_golden_row():
    """The modes that are measured; the other forgets its start too slowly at this coupling."""
    solver = PnPDM(steps=120, sigma_max=0.1, sigma_min=0.1, inner=25, inner_sigma_min=1e-3)
    x = sample(solver, problem_g(), 4000)[:, :2]
    z_mean, z_std = z_scores(x, torch.tensor([0.9524, 0.9167]).double(), torch.tensor([0.2182, 0.3181]).double())
    assert z_mean.abs().max() < 4
    assert z_std.abs().max() < 4


def test_pnpdm_leaves_what_is_not_measured_to_the_prior():
    """Of the third mode a sweep is a step of an autoregression by 1 / (1 + coupling^2), whose law is the prior's."""
    solver = PnPDM(steps=120, sigma_max=0.1, sigma_min=0.1, inner=25, inner_sigma_min=1e-3)
    x = sample(solver, problem_g(), 4000, start=1.0)[:, 2:]
    mean = -0.3 * (1 - 1.01**-120)
    z_mean, z_std = z_scores(x, torch.tensor([mean]).double(), torch.ones(1).double())
    assert abs(float(z_mean)) < 4
    assert abs(float(z_std)) < 4


def test_pnpdm_nears_the_truth_as_the_coupling_falls():
    """Sweeps at a small coupling mix slowly: within 0.03 and a tenth of the spread after 60."""
    x = sample(PnPDM(steps=60, sigma_max=10.0, sigma_min=0.01, inner=30, inner_sigma_min=1e-3), problem_g(), 10_000)
    near(x.mean(0), TRUE_MEAN, 0.03)
    assert ((x.std(0) / torch.tensor(TRUE_STD) - 1).abs() < 0.1).all()


@pytest.mark.parametrize("solver", [DAPS(steps=100), PnPDM(steps=40, inner=5)])
def test_correlated_priors(solver):
    k = known()[3]
    x = solve(k.problem, k.prior, solver, seeds=range(500), width=500).samples[:, 0].flatten(1)
    found = distance(k, x)
    assert found.mean < 0.12
    assert abs(found.std - 1) < 0.1
    assert abs(found.chi2 - 1) < 0.1


@pytest.mark.parametrize("solver", [DAPS(steps=10), PnPDM(steps=10), FlowDPS()])
def test_no_noise_and_full_measurement_gives_the_measurement(solver):
    y = (1.0, 0.6, -2.0)
    problem = problem_g(torch.ones(3).double(), sigma=1e-6, y=y)
    x = sample(solver, problem, 8)
    assert (x - torch.tensor(y)).abs().max() < (0.05 if isinstance(solver, PnPDM) else 1e-3)


def test_calls():
    assert DAPS(steps=10).nfe == 10
    assert DAPS(steps=10, parity="paper").nfe == 50
    assert PnPDM(steps=10, inner=4).nfe == 40
    assert FlowDPS(sampler="heun").nfe == 55
    calls = []
    prior = GaussianPrior(torch.zeros(1, 3).double(), torch.ones(3).double())
    right = prior.denoise
    prior.denoise = lambda x, s: calls.append(1) or right(x, s)
    solver = DAPS(steps=4, parity="paper")
    *_, _ = solver.iterate(problem_g(), prior, Rng(), Iterate.before(torch.zeros(1, 1, 3).double()))
    assert len(calls) == solver.nfe
