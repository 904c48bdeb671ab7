"""Priors made of priors: slices, products, turns; and what perfect scores of two planes give, in closed form."""

import math

import pytest
import torch

from invdiff.errors import ConfigError, PriorError
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity
from invdiff.priors import GaussianPrior, PerpendicularPrior, ProductPrior, SlicewisePrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers import Iterate
from invdiff.solvers.tpdm import TPDM
from invdiff.space import Space
from invdiff.testing.priors import check_prior, smooth_gaussian

VOLUME = Space((1, 6, 6, 4))
ENDS = {"sigma_min": 0.002, "sigma_max": 50.0}

FIRST = Iterate.before(torch.zeros(()))


def flat(variance, shape=(1, 6, 6, 4), mean=0.0):
    return GaussianPrior(torch.full(shape, mean).double(), torch.tensor(float(variance)).double(), **ENDS)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_denoised_one_by_one(axis):
    sides = [6, 6, 4]
    sides[axis] = 5
    space = Space((1, *sides))
    plane = [n for a, n in enumerate(sides) if a != axis]
    one = GaussianPrior(torch.rand((1, *plane)), torch.rand((1, *plane)) + 0.1)
    prior = SlicewisePrior(one, space, axis)
    x = torch.randn((2, *space.shape))
    out = prior.denoise(x, torch.tensor([0.3, 0.7]))
    for b, sigma in enumerate((0.3, 0.7)):
        for i in range(5):
            want = one.denoise(x[b].select(1 + axis, i)[None], torch.tensor([sigma]))[0]
            torch.testing.assert_close(out[b].select(1 + axis, i), want)
    check_prior(prior, x, 0.05)
    assert prior.mean.expand(space.shape).select(1 + axis, 2).equal(one.mean)
    assert prior.std.expand(space.shape).select(1 + axis, 0).equal(one.std)


def test_slices_of_another_shape_are_refused():
    with pytest.raises(PriorError, match=r"slices across axis 0 of .* are \(1, 6, 4\), the prior is of 1x6x6"):
        SlicewisePrior(smooth_gaussian(6), VOLUME, 0)


@pytest.mark.parametrize(
    ("ratio", "turns"), [(2.0, "pa" * 6), (3.0, "ppa" * 4), (2.5, "ppapa" * 2), (1.5, "paapaapaa")]
)
def test_turns_are_even_and_depend_on_no_seed(ratio, turns):
    prior = PerpendicularPrior(flat(1), flat(2), ratio)
    rng = Rng([(0, 0)])
    found = "".join("p" if prior.at(k, rng) is prior.primary else "a" for k in range(len(turns)))
    assert found.count("a") == pytest.approx(len(turns) / ratio, abs=1)
    assert [prior.guided(k) for k in range(len(turns))] == [t == "p" for t in found]
    if ratio >= 2:
        assert found == turns


def test_several_auxiliary_priors_take_turns():
    a, b = flat(2), flat(3)
    prior = PerpendicularPrior(flat(1), [a, b], 2.0)
    chosen = [prior.at(k, Rng([(0, 0)])) for k in (1, 3, 5, 7)]
    assert [c is a for c in chosen] == [True, False, True, False]


def law(prior, solver):
    """Standard deviation of each voxel for a solver that is affine in its noise, by its coefficients."""
    space = prior.space
    A = Identity(space)
    problem = InverseProblem(A, GaussianNoise(0.1), torch.zeros((1, *A.range.shape)).double())

    class Unit(Rng):
        """1 at one draw, 0 at all others: the run's answer is the weight of that draw."""

        def __init__(self, when):
            super().__init__([(0, 0)])
            self.when = when

        def normal(self, name, step, like):
            return torch.full_like(like, float((name, step) == self.when))

    draws = [("start", 0), *((name, k) for k in range(solver.steps) for name in ("predictor",))]
    total = 0.0
    for when in draws:
        rng = Unit(when)
        with torch.no_grad():
            *_, last = solver.iterate(problem, prior, rng, Iterate.before(solver.start(problem, prior, rng)))
        total = total + last.x[0] ** 2
    return total


def variance(L, M, ratio, steps=2000):
    """The recursion of the predictor for one mode, as TPDM walks it: one scalar, exact."""
    solver = TPDM(steps=steps, zeta_per_sqrt_m=0.0, sigma_max=50.0, sigma_min=0.002)
    p, a = flat(L, (1, 1, 1, 1)), flat(M, (1, 1, 1, 1))
    prior = p if ratio is None else PerpendicularPrior(p, a, ratio)
    v = float(p.std**2 + 50.0**2)
    for step, s0, s1 in solver.levels(prior, FIRST):
        c = float((prior.at(step, Rng([(0, 0)]))).variance)
        G2 = s0**2 - s1**2
        v = (1 - G2 / (c + s0**2)) ** 2 * v + (G2 if s1 else 0.0)
    return v


def closed(L, M, w):
    """L^{2(1-w)} M^{2w} integral_0^inf (L + s)^{-2(1-w)} (M + s)^{-2w} ds."""
    u = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    s = u.exp()
    f = (L + s) ** (-2 * (1 - w)) * (M + s) ** (-2 * w) * s
    return L ** (2 * (1 - w)) * M ** (2 * w) * float(torch.trapezoid(f, u))


@pytest.mark.parametrize(("L", "M", "K"), [(0.25, 0.04, 2.0), (1.0, 0.04, 2.0), (0.25, 0.04, 3.0), (0.25, 0.04, 2.7)])
def test_turns_give_the_variance_of_their_closed_form(L, M, K):
    want = closed(L, M, 1 / K)
    if K == 2:
        assert want == pytest.approx(L * M * math.log(L / M) / (L - M), rel=1e-5)
    assert variance(L, M, K) == pytest.approx(want, rel=0.01)
    product = 1 / ((1 - 1 / K) / L + 1 / K / M)
    assert variance(L, M, K) > 1.1 * product, "broader than the product of the densities"


def test_tpdm_walks_the_recursion():
    prior = PerpendicularPrior(flat(0.25), flat(0.04), 2.0)
    solver = TPDM(steps=30, zeta_per_sqrt_m=0.0, sigma_max=50.0, sigma_min=0.002)
    torch.testing.assert_close(law(prior, solver), torch.full(VOLUME.shape, variance(0.25, 0.04, 2.0, 30)).double())


@pytest.mark.parametrize("c", [0.04, 0.25])
def test_equal_priors_are_one(c):
    assert variance(c, c, 2.0) == variance(c, c, None)
    assert variance(c, c, None) == pytest.approx(c, rel=0.01)


def test_summed_scores_have_the_same_law_as_turns():
    L, M = flat(0.25), flat(0.04)
    both = ProductPrior([L, M], [0.5, 0.5])
    x, sigma = torch.randn((2, *VOLUME.shape)).double(), torch.tensor([0.2, 1.0]).double()
    want = (L.score(x, sigma) + M.score(x, sigma)) / 2
    torch.testing.assert_close(both.score(x, sigma), want)
    v = float(both.std[0, 0, 0, 0] ** 2 + 50.0**2)
    solver = TPDM(steps=2000, sigma_max=50.0, sigma_min=0.002)
    for _, s0, s1 in solver.levels(both, FIRST):
        G2 = s0**2 - s1**2
        v = (1 - G2 * (0.5 / (0.25 + s0**2) + 0.5 / (0.04 + s0**2))) ** 2 * v + (G2 if s1 else 0.0)
    assert v == pytest.approx(closed(0.25, 0.04, 0.5), rel=0.01)


def test_independent_witnesses_multiply():
    """Weights of 1: the score of p q at each level; at small noise that of the product's density."""
    both = ProductPrior([flat(0.25), flat(0.04)], [1.0, 1.0])
    sigma = torch.tensor([0.002]).double()
    x = torch.full((1, *VOLUME.shape), 0.3).double()
    torch.testing.assert_close(both.score(x, sigma), -x * (1 / 0.25 + 1 / 0.04), rtol=1e-3, atol=0)
    torch.testing.assert_close(both.std**2, torch.full(VOLUME.shape, 1 / (1 / 0.25 + 1 / 0.04)).double())
    check_prior(both, torch.randn((3, *VOLUME.shape)).double() * 0.1, 0.2)


def test_what_cannot_be_joined():
    with pytest.raises(PriorError, match="priors of different images cannot be joined"):
        PerpendicularPrior(flat(1), flat(1, (1, 6, 6, 5)))
    with pytest.raises(ConfigError, match="an auxiliary prior and a ratio above 1 are needed, got 1 and 1"):
        PerpendicularPrior(flat(1), flat(1), 1.0)
    with pytest.raises(ConfigError, match="an auxiliary prior and a ratio above 1 are needed, got 0 and 2"):
        PerpendicularPrior(flat(1), [])
    with pytest.raises(ConfigError, match=r"each of 2 priors needs a weight > 0, got \[1.0, 0.0\]"):
        ProductPrior([flat(1), flat(1)], [1.0, 0.0])


@pytest.mark.parametrize("parity", ["safe", "code"])
def test_the_code_without_corrector_collapses(parity):
    prior = flat(0.25)
    spread = float(
        law(prior, TPDM(steps=30, zeta_per_sqrt_m=0.0, sigma_max=50.0, sigma_min=0.002, parity=parity)).mean()
    )
    assert (spread > 0.2) if parity == "safe" else (spread < 1e-3)
