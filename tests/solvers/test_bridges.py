"""I2SB and CDDB on a Gaussian whose optimal bridge is linear: posterior mean, transported law, residuals."""

import math

import pytest
import torch

from invdiff.bridges import GaussianBridge, i2sb, indi
from invdiff.errors import CapabilityError, ConfigError
from invdiff.noise import GaussianNoise
from invdiff.operators import LinearOperator, UndersampledComplexFourier
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import CDDB, I2SB, Iterate
from invdiff.space import Space
from invdiff.testing.golden import OneStream

D, NOISE = 16, 0.02
SPACE = Space((1, 1, D), torch.float64)
i = torch.arange(D).double()
S = 0.25 * 0.9 ** (i[:, None] - i).abs()
A = 0.5 * torch.eye(D).double() + 0.25 * (torch.diag(torch.ones(D - 1), 1) + torch.diag(torch.ones(D - 1), -1)).double()
C11 = A @ S @ A.T + NOISE**2 * torch.eye(D).double()
GAIN = S @ A.T @ torch.linalg.inv(C11)  # of the posterior mean
POSTERIOR = S - GAIN @ A @ S


class Blur(LinearOperator):
    """A as an operator; the degraded image is the measurement itself."""

    def __init__(self):
        super().__init__()
        self.domain = self.range = SPACE

    def forward(self, x):
        return x @ A.T

    def adjoint(self, y):
        return y @ A

    def direct(self, y):
        return y


def bridge(*, ot_ode=False, conditional=False):
    return optimal(i2sb(0.3, ot_ode=ot_ode), conditional=conditional)


def optimal(process, *, conditional):
    zero = torch.zeros(D).double()
    ends = {"mean0": zero, "mean1": zero, "C00": S, "C01": S @ A.T, "C11": C11}
    return GaussianBridge(SPACE, process, conditional=conditional, **ends)


def pairs(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    x0 = torch.randn(count, D, generator=g).double() @ torch.linalg.cholesky(S).T
    return x0, x0 @ A.T + NOISE * torch.randn(count, D, generator=g).double()


def spread_of_trace(C, count):
    """Relative standard deviation of the trace of an empirical covariance of C."""
    return float((2 * (C @ C).trace() / count).sqrt() / C.trace())


def run(solver, prior, y, seed=0):
    problem = InverseProblem(Blur(), GaussianNoise(NOISE), y[:, None, None])
    rng = OneStream(len(y), seed)
    with torch.no_grad():
        *_, last = solver.iterate(problem, prior, rng, Iterate.before(solver.start(problem, prior, rng)))
    return last.x[:, 0, 0]


@pytest.mark.parametrize(
    ("kind", "parity", "tolerance"),
    [
        ({"conditional": True}, "safe", 1e-5),
        ({"conditional": True}, "code", 5e-4),
        ({"ot_ode": True}, "safe", 1e-3),
        ({}, "safe", 2e-2),
    ],
)
def test_one_step_is_the_posterior_mean(kind, parity, tolerance):
    """But for the unconditional stochastic bridge, whose training has seen no x_t without noise."""
    _, y = pairs(200)
    want = y @ GAIN.T
    error = (run(I2SB(steps=1, parity=parity), bridge(**kind), y) - want).norm() / want.norm()
    assert error < tolerance
    assert torch.equal(
        run(CDDB(steps=1, parity=parity), bridge(**kind), y), run(I2SB(steps=1, parity=parity), bridge(**kind), y)
    )


@pytest.mark.parametrize("steps", [1, 5])
def test_cddb_runs_on_the_straight_line_too(steps):
    """InDI: one step is the posterior mean, and more of them do not leave the data."""
    _, y = pairs(200)
    x = run(CDDB(steps=steps), optimal(indi(), conditional=False), y)
    if steps == 1:
        torch.testing.assert_close(x, y @ GAIN.T, atol=1e-6, rtol=1e-5)
    assert float(((x @ A.T - y) ** 2).mean()) < 4 * NOISE**2


def test_a_conditional_bridge_samples_the_posterior():
    count = 4000
    _, y = pairs(1)
    x = run(I2SB(steps=999, parity="code"), bridge(conditional=True), y.expand(count, D))
    trace = float(torch.trace(POSTERIOR))
    assert float(x.var(0).sum()) / trace == pytest.approx(0.97, abs=0.05)
    z = (x.mean(0) - y[0] @ GAIN.T) / (x.std(0) / math.sqrt(count))
    assert z.abs().max() < 4.5


@pytest.mark.parametrize("ot_ode", [False, True])
def test_an_unconditional_bridge_transports_the_law_and_no_more(ot_ode):
    count = 4000
    _, y = pairs(count)
    x = run(I2SB(steps=999, parity="code"), bridge(ot_ode=ot_ode), y)
    assert float(x.var(0).sum()) / float(torch.trace(S)) == pytest.approx(
        0.998, abs=0.01 + 4 * spread_of_trace(S, count)
    )
    if not ot_ode:
        same = run(I2SB(steps=999, parity="code"), bridge(), y[:1].expand(500, D))
        assert float(same.var(0).sum()) > 5 * float(torch.trace(POSTERIOR)), "not the posterior"


@pytest.mark.parametrize("steps", [2, 10, 100])
def test_cddb_lowers_residual_and_error(steps):
    """From no correction over half a step to a whole one, at every number of calls."""
    x0, y = pairs(4000)
    solvers = I2SB(steps=steps), CDDB(steps=steps, data="grad", step=0.5), CDDB(steps=steps, data="grad")
    found = [run(solver, bridge(), y) for solver in solvers]
    residuals = [float(((x @ A.T - y) ** 2).sum(1).mean()) for x in found]
    errors = [float(((x - x0) ** 2).sum(1).mean()) for x in found]
    assert residuals[0] > residuals[1] > residuals[2]
    assert errors[0] > errors[1] > errors[2]


def test_residuals_are_those_of_the_sheet():
    x0, y = pairs(40_000)
    x = run(I2SB(steps=10, parity="code"), bridge(), y)
    assert float(((x @ A.T - y) ** 2).sum(1).mean()) == pytest.approx(0.446, rel=0.03)
    assert float(((x - x0) ** 2).sum(1).mean()) == pytest.approx(0.789, rel=0.03)
    x = run(CDDB(steps=10, data="grad", parity="paper"), bridge(), y)
    assert float(((x @ A.T - y) ** 2).sum(1).mean()) == pytest.approx(0.023, rel=0.06)


@pytest.mark.parametrize("settings", [{"data": "cg"}, {"data": "prox"}, {"deep": True, "step": 0.5}])
def test_other_corrections_lower_the_residual_too(settings):
    _, y = pairs(1000)
    plain, x = (run(solver, bridge(), y) for solver in (I2SB(steps=10), CDDB(steps=10, **settings)))
    assert float(((x @ A.T - y) ** 2).sum()) < 0.5 * float(((plain @ A.T - y) ** 2).sum())


def test_the_codes_step_turns_the_residual_over_where_the_norm_is_1():
    y = pairs(5)[1][:, None, None]
    problem = InverseProblem(Blur(), GaussianNoise(NOISE), y)
    safe, code = (CDDB(data="grad", parity=p).towards_data(problem, 0 * y) for p in ("safe", "code"))
    torch.testing.assert_close(code, 2 * safe)


@pytest.mark.parametrize("data", ["grad", "cg", "prox"])
def test_noise_is_never_fitted(data):
    """As far as the noise and no further; a state that fits it already is left alone."""
    x0, y = pairs(200)
    problem = InverseProblem(Blur(), GaussianNoise(NOISE), y[:, None, None])
    solver = CDDB(data=data)
    for start in (torch.zeros_like(x0), x0, GAIN @ y.T):
        start = (start if start.shape == x0.shape else start.T)[:, None, None]
        before = problem.residual_norm2(start) / (D * NOISE**2)
        after = problem.residual_norm2(solver.towards_data(problem, start)) / (D * NOISE**2)
        assert bool((after <= before + 1e-9).all())
        assert bool((after >= torch.minimum(before, torch.ones(())) - 1e-6).all())
    exact = CDDB(data=data, parity="paper").towards_data(problem, torch.zeros_like(x0)[:, None, None])
    if data == "cg":
        assert bool((problem.residual_norm2(exact) < D * NOISE**2).any()), "the paper fits it"


def test_conjugate_gradients_stop_where_only_rounding_is_left():
    """On MRI one step solves A^H A x = b; the next ones would divide rounding by rounding."""
    space = Space((2, 20, 18))
    operator = UndersampledComplexFourier(space, (torch.arange(20) % 3 == 0)[:, None])
    x = torch.randn((3, *space.shape), generator=torch.Generator().manual_seed(0))
    problem = InverseProblem(operator, GaussianNoise(1e-3), operator(x))
    found = CDDB(cg_iterations=20, parity="paper").towards_data(problem, torch.zeros_like(x))
    torch.testing.assert_close(found, operator.adjoint(problem.y), atol=1e-5, rtol=1e-4)


def test_samples_do_not_depend_on_their_neighbours():
    y = pairs(3)[1][:, None, None]
    problem = InverseProblem(Blur(), GaussianNoise(NOISE), y)
    prior = bridge(conditional=True)
    together = solve(problem, prior, CDDB(steps=5), seeds=(0, 1), width=4).samples
    alone = solve(problem.rows([2]), prior, CDDB(steps=5), seeds=(1,), indices=[2], width=4).samples
    assert torch.equal(alone[0, 0], together[1, 2])


def test_a_prior_is_no_bridge():
    y = pairs(1)[1][:, None, None]
    prior = GaussianPrior(torch.zeros(1, 1, D).double(), torch.ones(1, 1, D).double())
    with pytest.raises(CapabilityError, match="CDDB needs a Bridge as its prior; GaussianPrior is not one"):
        solve(InverseProblem(Blur(), GaussianNoise(NOISE), y), prior, CDDB())


def test_a_deterministic_bridge_that_sees_x1_is_refused():
    for process in (i2sb(ot_ode=True), indi()):
        with pytest.raises(ConfigError, match="a deterministic bridge that is shown x1 learns a subtraction"):
            optimal(process, conditional=True)


def test_processes():
    p = i2sb(0.3)
    assert float(p.c[-1]) == pytest.approx(0.3755, abs=1e-4)
    assert float(p.s.max()) == pytest.approx(0.188, abs=1e-3)
    assert float(p.c[0]) == pytest.approx(0.01)
    assert float(i2sb(1.0).c[-1]) == pytest.approx(0.4969, abs=1e-4)
    assert float(i2sb(1.0).s.max()) == pytest.approx(0.249, abs=1e-3)
    assert indi().back(999, 499) == (0.5, 0.0)
