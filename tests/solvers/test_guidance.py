"""DPS and TPDM: what their guidance is counted in."""

import pytest
import torch

from invdiff.noise import GaussianNoise
from invdiff.operators import Diagonal, Mask, Operator
from invdiff.priors import GaussianPrior, PerpendicularPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import DPS, TPDM
from invdiff.space import Space

SPACE = Space((1, 6, 6, 4), torch.float64)
MEASURED = torch.arange(4) % 2 == 0


class Plain(Operator):
    """A linear operator that says nothing of it."""

    def __init__(self, A):
        super().__init__()
        self.A, self.domain, self.range = A, A.domain, A.range

    def forward(self, x):
        return self.A(x)


def run(A, parity="safe", solver=TPDM, noise=0.01, **settings):
    prior = GaussianPrior(
        torch.full(SPACE.shape, 0.4).double(), torch.tensor(0.04).double(), sigma_min=0.002, sigma_max=10.0
    )
    x = torch.rand((1, *SPACE.shape), generator=torch.Generator().manual_seed(0)).double()
    problem = InverseProblem(A, GaussianNoise(noise), A(x))
    return solve(problem, prior, solver(steps=20, parity=parity, **settings), width=1).samples


def scaled(factor):
    return Diagonal(SPACE, factor * MEASURED.expand(SPACE.shape).double())


@pytest.mark.parametrize(("solver", "zeta"), [(TPDM, 0.05), (TPDM, None), (DPS, 0.02)])
def test_guidance_is_in_units_of_the_operator(solver, zeta):
    how = {"solver": solver, "zeta_per_sqrt_m": zeta}
    one, hundred = ({p: run(scaled(c), p, noise=0.01 * c, **how) for p in ("safe", "paper")} for c in (1.0, 100.0))
    torch.testing.assert_close(one["safe"], hundred["safe"], atol=1e-8, rtol=0)
    assert (one["paper"] - hundred["paper"]).abs().max() > 1, "a plain number is not"


@pytest.mark.parametrize("zeta", [None, 0.02, 0.1])
def test_an_operator_that_is_not_linear_has_no_norm(zeta):
    plain, linear = Plain(scaled(3.0)), scaled(3.0)
    settings = {"zeta_per_sqrt_m": zeta}
    torch.testing.assert_close(run(plain, **settings), run(linear, "paper", **settings), atol=1e-10, rtol=0)


def test_masks_have_norm_one():
    A, zeta = Mask(SPACE, MEASURED), {"zeta_per_sqrt_m": 0.05}
    torch.testing.assert_close(run(A, **zeta), run(A, "paper", **zeta), atol=1e-8, rtol=0)


@pytest.mark.parametrize(("parity", "seen"), [("safe", 6), ("paper", 3), ("code", 3)])
def test_published_turns_of_the_auxiliary_prior_do_not_see_the_data(monkeypatch, parity, seen):
    asked = []
    adjoint = Mask.adjoint
    monkeypatch.setattr(Mask, "adjoint", lambda self, y: (asked.append(y), adjoint(self, y))[1])
    A = Mask(SPACE, MEASURED)
    prior = GaussianPrior(torch.full(SPACE.shape, 0.4).double(), torch.tensor(0.04).double(), sigma_max=10.0)
    problem = InverseProblem(A, GaussianNoise(0.01), A(torch.rand(1, *SPACE.shape).double()))
    solve(problem, PerpendicularPrior(prior, prior), TPDM(steps=6, parity=parity, zeta_per_sqrt_m=0.05), width=1)
    assert len(asked) == seen


def test_found_guidance_ends_at_the_level_of_the_noise():
    """Of an ill-conditioned operator; pulls of one length end in a limit cycle around the data."""
    A = Diagonal(SPACE, torch.logspace(-2, 0, SPACE.reals, dtype=torch.float64).reshape(SPACE.shape))
    y = A(torch.rand((1, *SPACE.shape), generator=torch.Generator().manual_seed(1)).double())
    prior = GaussianPrior(torch.full(SPACE.shape, 0.4).double(), torch.tensor(0.04).double(), sigma_max=10.0)
    problem = InverseProblem(A, GaussianNoise(0.01), y)
    chi2 = {zeta: float(problem.residual_norm2(
        solve(problem, prior, TPDM(steps=100, zeta_per_sqrt_m=zeta), width=1).samples[0]
    )) / (SPACE.reals * 0.01**2) for zeta in (None, 0.5)}  # fmt: skip
    assert chi2[None] < 1.5 < 10 < chi2[0.5]
