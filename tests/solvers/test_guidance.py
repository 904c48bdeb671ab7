"""DPS and TPDM: what their guidance is counted in."""

import pytest
import torch

from invdiff.noise import GaussianNoise
from invdiff.operators import Diagonal, Mask, Operator
from invdiff.priors import GaussianPrior
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


def run(A, parity="safe", solver=TPDM, **settings):
    prior = GaussianPrior(
        torch.full(SPACE.shape, 0.4).double(), torch.tensor(0.04).double(), sigma_min=0.002, sigma_max=10.0
    )
    x = torch.rand((1, *SPACE.shape), generator=torch.Generator().manual_seed(0)).double()
    problem = InverseProblem(A, GaussianNoise(0.01), A(x))
    return solve(problem, prior, solver(steps=20, parity=parity, **settings), width=1).samples


def scaled(factor):
    return Diagonal(SPACE, factor * MEASURED.expand(SPACE.shape).double())


@pytest.mark.parametrize("solver", [TPDM, DPS])
def test_guidance_is_in_units_of_the_operator(solver):
    one, hundred = ({p: run(scaled(c), p, solver) for p in ("safe", "paper")} for c in (1.0, 100.0))
    torch.testing.assert_close(one["safe"], hundred["safe"], atol=1e-8, rtol=0)
    assert (one["paper"] - hundred["paper"]).abs().max() > 1, "a plain number is not"


@pytest.mark.parametrize("zeta", [0.02, 0.1])
def test_an_operator_that_is_not_linear_has_no_norm(zeta):
    plain, linear = Plain(scaled(3.0)), scaled(3.0)
    settings = {"zeta_per_sqrt_m": zeta}
    torch.testing.assert_close(run(plain, **settings), run(linear, "paper", **settings), atol=1e-10, rtol=0)


def test_masks_have_norm_one():
    torch.testing.assert_close(run(Mask(SPACE, MEASURED)), run(Mask(SPACE, MEASURED), "paper"), atol=1e-8, rtol=0)
