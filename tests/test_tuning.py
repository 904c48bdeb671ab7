"""Holding out: every number is in one part, operators stay of their kind, and the best setting is found by it."""

import pytest
import torch

from invdiff import holdout
from invdiff.errors import CapabilityError, ConfigError, DivergedError
from invdiff.grids import MAIN, around, candidates, parse
from invdiff.noise import GaussianNoise
from invdiff.noise.poisson import PoissonNoise
from invdiff.operators import (
    FFT,
    NUFFT,
    Coils,
    ComplexFromChannels,
    Diagonal,
    Identity,
    Mask,
    ParallelRadon,
    Sense,
    SVDOperator,
    UndersampledComplexFourier,
    UndersampledFourier,
    gaussian_blur,
)
from invdiff.problem import InverseProblem
from invdiff.registry import names
from invdiff.rng import Rng
from invdiff.solution import solve
from invdiff.solvers import DDRM, DMID, TV, Solver, Wavelet
from invdiff.space import Space
from invdiff.testing.operators import check_linear_operator
from invdiff.tuning import Bench, Trial, Tuning, held_out, search_ladder, tune

SPACE = Space((1, 16, 12), torch.float64)
PAIR = Space((2, 16, 12), torch.float64)
LINES = (torch.arange(16) % 2 == 0)[:, None]
ENTRY = ComplexFromChannels(PAIR)
PATHS = torch.rand(60, 2, generator=torch.Generator().manual_seed(3)).double() * 5
MAPS = torch.randn(3, 16, 12, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
COILS = Coils(ENTRY.range, MAPS) @ ENTRY
POINTS = torch.rand(16, 1, 12, generator=torch.Generator().manual_seed(1)) < 0.5
VOLUME = Space((2, 16, 5, 12), torch.float64)
RADON = ParallelRadon(SPACE, torch.arange(9) * 0.3)
OPERATORS = {
    "mri": (UndersampledFourier(SPACE, LINES), "lines of k-space", 8),
    "full mri": (UndersampledFourier(SPACE, LINES | True), "lines of k-space", 16),
    "complex mri": (UndersampledComplexFourier(PAIR, LINES), "lines of k-space", 8),
    "coils": (Mask(COILS.range, LINES) @ FFT(COILS.range) @ COILS, "lines of k-space", 8),
    "sense": (Sense(Coils(ENTRY.range, MAPS), LINES) @ ENTRY, "lines of k-space", 8),
    "3-D mri": (UndersampledComplexFourier(VOLUME, POINTS, 3), "lines of k-space", int(POINTS.sum())),
    "radial": (NUFFT(ENTRY.range, PATHS, backend="gridding") @ ENTRY, "measured elements", 60),
    "ct": (RADON, "views", 9),
    "weighted ct": (Diagonal(RADON.range, torch.full((1, 1, 1), 1.4).double()) @ RADON, "views", 9),
    "blur": (gaussian_blur(SPACE, (1.0, 1.0)), "measured elements", 192),
    "denoise": (Identity(SPACE), "measured elements", 192),
    "inpaint": (Mask(PAIR, torch.rand(16, 12, generator=torch.Generator().manual_seed(2)) < 0.7), "measured elements",
                None),
}  # fmt: skip


def image(space, count=2):
    return torch.rand((count, *space.shape), generator=torch.Generator().manual_seed(5), dtype=space.dtype)


def problem(A, sigma=0.01, count=2):
    noise = GaussianNoise(sigma)
    return InverseProblem(A, noise, noise.sample(A(image(A.domain, count)), Rng([(0, i) for i in range(count)])))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_number_is_in_one_part(name):
    A, kind, count = OPERATORS[name]
    p = problem(A)
    s = holdout.split(p, views="ct" in name)
    assert s.kind == kind
    assert count in (None, s.groups)
    assert 1 <= s.held_groups <= round(0.2 * s.groups) + 1
    assert s.kept.operator.range.reals + s.held.operator.range.reals == A.range.reals
    x = image(A.domain)
    for part in (s.kept, s.held):  # the part of the measurement is that of the part's operator
        clean = part.operator(x)
        reals = torch.view_as_real(part.y - clean) if clean.is_complex() else part.y - clean
        assert float(reals.abs().max()) < 0.06
        check_linear_operator(part.operator, 1e-10)
    together = torch.cat([s.kept.y.flatten(1), s.held.y.flatten(1)], 1)
    assert torch.equal(together.abs().sort(1).values, p.y.abs().flatten(1).sort(1).values)


def test_operators_that_end_in_a_mask_stay_of_their_kind():
    for name in ("mri", "complex mri"):
        A, _, _ = OPERATORS[name]
        assert type(holdout.split(problem(A)).kept.operator) is type(A)
    assert isinstance(holdout.split(problem(OPERATORS["sense"][0])).kept.operator.A, Sense)
    for name in ("inpaint", "denoise"):
        assert isinstance(holdout.split(problem(OPERATORS[name][0])).kept.operator, SVDOperator)


def test_whole_lines_are_held_out_and_the_strongest_never():
    A = OPERATORS["mri"][0]
    p = problem(A)
    energy = p.y.abs().square().sum((0, 1)).reshape(8, 12).sum(1)
    for seed in range(6):
        held = holdout.split(p, seed=seed, fraction=0.3).held.operator.mask.singular_values[:, 0].bool()
        whole = holdout.split(p, seed=seed, fraction=0.3).held.operator.mask.singular_values
        assert torch.equal(whole, held[:, None].expand(16, 12).to(whole))
        assert int(held.sum()) == 2
        assert not bool(held[::2][energy.topk(3).indices].any())


def test_a_part_is_reconstructed_at_the_intensities_of_the_whole():
    """Filtered back-projection of a third of the views would be two thirds too dark."""
    A = ParallelRadon(SPACE, torch.arange(30) * torch.pi / 30)
    smooth = torch.zeros(1, 1, 16, 12).double()
    smooth[..., 4:12, 3:9] = 1
    p = InverseProblem(A, GaussianNoise(0.01), A(smooth))
    part = holdout.split(p, views=True, fraction=0.66).kept
    assert float(part.operator.direct(part.y)[..., 6:10, 5:7].mean()) == pytest.approx(1, abs=0.1)


def test_too_little_to_hold_out_is_refused():
    p = problem(UndersampledFourier(SPACE, torch.arange(16)[:, None] < 3))
    with pytest.raises(ConfigError, match="the measurement has 3 lines of k-space; at least 4 are needed to hold some"):
        holdout.split(p)
    with pytest.raises(ConfigError, match="the fraction that is held out lies between 0 and 1, got 1"):
        holdout.split(p, fraction=1.0)


def bench(p, width=8):
    return Bench(p, list(range(len(p.y))), None, None, False, width)


def test_the_score_is_1_at_the_truth_and_counts_in_noise():
    A = OPERATORS["inpaint"][0]
    p = problem(A, sigma=0.05, count=40)
    held = holdout.split(p).held
    m = held.operator.range.reals * 40
    assert held_out(held, image(PAIR, 40)) == pytest.approx(1, abs=4 * (2 / m) ** 0.5)
    clean = problem(A, sigma=0.0, count=2)
    assert held_out(clean, torch.zeros(2, *PAIR.shape).double()) == pytest.approx(1)
    assert held_out(clean, image(PAIR)) == 0
    counts = InverseProblem(Identity(SPACE), PoissonNoise(1.0), torch.ones(2, *SPACE.shape).double())
    assert held_out(counts, torch.zeros(2, *SPACE.shape).double()) == pytest.approx(1)


def test_it_finds_the_weight_with_the_least_error():
    x = torch.zeros(2, *PAIR.shape).double()
    x[:, :, 4:12, 3:9] = 1.0
    A, noise = Identity(PAIR), GaussianNoise(0.3)
    p = InverseProblem(A, noise, noise.sample(x, Rng([(1, 0), (1, 1)])))
    solvers = [Wavelet(weight=w, family="db1", iterations=40) for w in (0.001, 0.03, 0.3, 3.0, 30.0)]
    found = tune(bench(p), solvers)
    errors = [float((solve(p, None, s).mean - x).square().mean()) for s in solvers]
    assert found.best.solver == solvers[errors.index(min(errors))]
    assert errors.index(min(errors)) in (1, 2, 3)
    assert found.noise_units
    assert 0.8 < found.best.score < 2


def test_diverged_candidates_lose_and_all_of_them_are_an_error():
    class Bad(TV):
        def iterate(self, problem, prior, rng, start):
            raise DivergedError("no")

    p = problem(OPERATORS["inpaint"][0])
    found = tune(bench(p), [Bad(), TV(iterations=2)])
    assert found.trials[0].score == float("inf")
    assert found.best is found.trials[1]
    with pytest.raises(DivergedError, match="TV diverged with all settings; check the operator's norm"):
        _ = Tuning([Trial(TV(), float("inf"), 0.0)], found.split, True).best


def test_what_cannot_be_held_out_is_refused_by_the_header():
    blurred, noisy = problem(OPERATORS["blur"][0]), problem(OPERATORS["denoise"][0])
    with pytest.raises(CapabilityError, match="DDRM needs a SVDOperator as its operator; Part is not one"):
        tune(bench(blurred), [DDRM(steps=2)])
    with pytest.raises(CapabilityError, match="DMID needs a Identity as its operator; Mask is not one"):
        tune(bench(noisy), [DMID(steps=2)])


def test_a_ladder_is_for_solvers_that_have_one():
    with pytest.raises(ConfigError, match="TV walks down no noise ladder; --ladder is for solvers with the setting"):
        search_ladder(bench(problem(OPERATORS["denoise"][0])), TV(), 3)


def test_every_main_setting_exists():
    known = names("solvers")
    for solver in MAIN:
        assert issubclass(known[solver], Solver)
        values = candidates(solver, {}, {})
        assert len(values) in (4, 5), solver


def test_grids():
    assert around("diffpir", {}) == {"lam": [0.25, 0.5, 1.0, 2.0, 4.0]}
    assert around("cg", {}) == {"iterations": [5, 10, 20, 40, 80]}
    assert around("ddrm", {}) == {"eta": [0.0, 0.25, 0.5, 0.75, 1.0]}
    both = candidates("tv", {}, {"weight": ["0.1", "0.2"], "iterations": [3]})
    assert both == [{"weight": 0.1, "iterations": 3}, {"weight": 0.2, "iterations": 3}]
    assert candidates("tv", {}, {"weight": ["0.1", 0.1]}) == [{"weight": 0.1}]
    assert parse({"solver.lam": "1, 2"}) == {"lam": ["1", "2"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: around("direct", {}), r"direct has no main setting; say what to try, e.g. --grid KEY=1,2,4 \(it has"),
        (lambda: around("tv", {"weight": 1}), "weight is what tv is tuned in, and --set gives it; give --grid"),
        (lambda: candidates("tv", {"weight": 1}, {"weight": [1]}), "weight is both in --grid and in --set; leave one"),
        (lambda: candidates("tv", {}, {"wieght": [1]}), "TV has no setting 'wieght'; did you mean 'weight'?"),
        (lambda: candidates("tv", {}, {"weight": ["-1"]}), "TV.weight: Input should be greater than or equal to 0"),
        (lambda: parse({"lam": "1,,2"}), r"--grid takes KEY=v1,v2,..., got lam=1,,2"),
    ],
)
def test_grids_refuse(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
