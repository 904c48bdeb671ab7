"""The step size search against brute force, its own roll-out and its teacher; the file against each way to spoil it."""

import itertools
import json

import pytest
import torch

from invdiff import stepsizes
from invdiff.errors import ConfigError, FileError
from invdiff.priors import GaussianPrior, MixturePrior
from invdiff.schedules import ddpm, flow, karras
from invdiff.solvers import DiffPIR, Iterate
from invdiff.testing.golden import prior_g
from invdiff.verification.problems import known

SHORT = "0" * 64


def gaussian(size=12, seed=0):
    """Variances from 0.01 to 2, so that no ladder is right for all modes."""
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(1, size, generator=g, dtype=torch.float64)
    return GaussianPrior(mean, torch.logspace(-2, 0.3, size, dtype=torch.float64))


def start(prior, sigma, count=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    return prior.mean + (prior.variance + sigma**2) ** 0.5 * torch.randn(count, *prior.mean.shape, generator=g).double()


def end(prior, levels, x):
    return stepsizes.walk(stepsizes.euler(prior.denoise), [float(s) for s in levels], x)[-1]


def distance(prior, fine, indices, x):
    return float(((end(prior, fine[list(indices)], x) - end(prior, fine, x)) ** 2).mean())


@pytest.mark.parametrize(("fine", "steps"), [
    (karras(16, 0.02, 20.0), 4), (karras(16, 0.02, 20.0), 3), (karras(14, 0.02, 20.0), 5), (ddpm(12), 4),
    (flow(16, 50.0), 5), (karras(10, 0.1, 5.0), 2),
])  # fmt: skip
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_best_of_all_subsets(fine, steps, seed):
    prior = gaussian(seed=seed)
    x, N = start(prior, float(fine[0]), seed=seed), len(fine) - 1
    found = stepsizes.search(stepsizes.euler(prior.denoise), fine, x, steps)
    paths = [(0, *inner, N) for inner in itertools.combinations(range(1, N), steps - 1)]
    best = min(distance(prior, fine, path, x) for path in paths)
    assert found.cost == pytest.approx(best, rel=1e-9)
    assert found.cost <= found.even


def test_the_cost_is_that_of_the_walk():
    """Which it is not without the reachability mask: the programme's own cost at (K, N) against the roll-out."""
    prior, fine = gaussian(), karras(20, 0.02, 20.0)
    x = start(prior, 20.0)
    found = stepsizes.search(stepsizes.euler(prior.denoise), fine, x, 5)
    teacher = torch.stack(stepsizes.walk(stepsizes.euler(prior.denoise), fine.tolist(), x))
    path = stepsizes._programme(stepsizes.euler(prior.denoise), fine.tolist(), teacher, 5)
    assert path[0].tolist() == list(found.indices)
    assert found.cost == pytest.approx(distance(prior, fine, path[0].tolist(), x), rel=1e-12)
    assert torch.equal(found.sigmas, fine[list(found.indices)])
    assert (found.indices[0], found.indices[-1], found.steps, found.levels) == (0, 20, 5, 20)


def test_more_steps_cost_less_and_all_of_them_are_the_teacher():
    prior, fine = gaussian(), karras(12, 0.02, 20.0)
    x = start(prior, 20.0)
    costs = [stepsizes.search(stepsizes.euler(prior.denoise), fine, x, k).cost for k in range(1, 13)]
    assert all(b <= a for a, b in itertools.pairwise(costs)), costs
    assert costs[-1] == 0
    assert stepsizes.search(stepsizes.euler(prior.denoise), fine, x, 12).indices == tuple(range(13))


def test_each_image_has_its_ladder_and_the_median_ascends():
    prior, fine = gaussian(), karras(16, 0.02, 20.0)
    x = start(prior, 20.0, count=7)
    denoise = stepsizes.euler(prior.denoise)
    found = stepsizes.search(denoise, fine, x, 4)
    each = torch.tensor([stepsizes.search(denoise, fine, x[i : i + 1], 4).indices for i in range(7)])
    assert len({tuple(row.tolist()) for row in each}) > 1
    assert list(found.indices) == each.median(0).values.tolist()
    assert bool((found.sigmas.diff() < 0).all())
    assert found.cost == pytest.approx(distance(prior, fine, found.indices, x), rel=1e-12)
    assert found.cost < found.even


def test_a_flow_takes_the_same_steps_and_so_the_same_ladder():
    """Euler in t = sigma / (1 + sigma) of x = z / (1 + sigma) with v = e - x0: the numbers of Euler in sigma."""
    prior, fine = gaussian(), karras(12, 0.02, 20.0)
    z = start(prior, 20.0)
    x = z / 21
    for s0, s1 in itertools.pairwise(fine.tolist()):
        x0, e = stepsizes.euler(prior.denoise)(x * (1 + s0), s0)
        x = x + (s1 / (1 + s1) - s0 / (1 + s0)) * (e - x0)
    torch.testing.assert_close(x, end(prior, fine, z), atol=1e-12, rtol=0)


def test_it_counts_its_calls():
    prior, fine, seen = gaussian(), karras(10, 0.02, 20.0), []
    stepsizes.search(stepsizes.euler(prior.denoise), fine, start(prior, 20.0), 4, callback=seen.append)
    assert seen == list(range(1, stepsizes.calls(10, 4) + 1))
    assert len(seen) <= 10 + 4 * 10 + 2 * 4


def test_a_searched_ladder_serves_a_solver(tmp_path):
    """Conditioned on a measurement: 5 levels that were searched for end nearer to 60 than 5 of EDM's."""
    k = next(k for k in known() if k.name == "mixture, mri")
    assert isinstance(k.prior, MixturePrior)
    fine, solver = karras(40, 0.007, 4.0), DiffPIR(sampler="ddim", zeta=0.0)

    def denoise(x, sigma):
        return tuple(solver.estimate(k.problem.rows([0] * len(x)), k.prior, x, sigma, 1.0))

    x = 4.0 * torch.randn((6, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = stepsizes.search(denoise, fine, x, 5)
    path = tmp_path / "ladder.json"
    stepsizes.save(path, found, prior_sha256=SHORT, solver="diffpir", settings={"lam": 1.0})
    problem = k.problem.rows([0] * 6)

    def last(solver):
        *_, it = solver.iterate(problem, k.prior, None, Iterate.before(x))
        assert isinstance(it, Iterate)
        return it.x

    class NoDraws:
        def normal(self, name, step, like):
            return torch.zeros_like(like)

    def run(**settings):
        *_, it = DiffPIR(sampler="ddim", zeta=0.0, sigma_max=4.0, sigma_min=0.007, **settings).iterate(
            problem, k.prior, NoDraws(), Iterate.before(x)
        )
        return it.x

    truth = run(steps=40)
    searched, edm = ((run(steps=5, **s) - truth).square().mean() for s in ({"ladder": str(path)}, {}))
    assert float(searched) == pytest.approx(found.cost, rel=1e-9)
    assert searched < edm / 2


@pytest.fixture
def ladder():
    return stepsizes.Ladder((0, 2, 5), torch.tensor([4.0, 1.0, 0.0]).double(), 1e-3, 2e-3, 5)


def test_file_round_trip(ladder, tmp_path):
    path = tmp_path / "l.json"
    stepsizes.save(path, ladder, prior_sha256=SHORT, solver="dds", settings={"gamma": 2.0})
    assert torch.equal(stepsizes.load_ladder(path, 2), ladder.sigmas)
    assert torch.equal(stepsizes.load_ladder(path, 2, prior_sha256=SHORT, solver="dds"), ladder.sigmas)
    content = json.loads(path.read_text())
    assert (content["N"], content["K"], content["indices"]) == (5, 2, [0, 2, 5])
    assert content["settings"] == {"gamma": 2.0}
    assert torch.equal(DiffPIR(steps=2, ladder=str(path)).sigmas(prior_g()), ladder.sigmas)
    assert [p.name for p in tmp_path.iterdir()] == ["l.json"]


def test_a_file_that_cannot_be_written(ladder, tmp_path):
    with pytest.raises(FileError, match="does not exist; make it first"):
        stepsizes.save(tmp_path / "no" / "l.json", ladder, prior_sha256=SHORT, solver="dds", settings={})


@pytest.mark.parametrize(
    ("content", "steps", "message"),
    [
        ("{", 2, "is not a ladder: .*write one with invdiff tune --ladder"),
        ("[1, 0]", 1, "is not a ladder"),
        ('{"levels": [1, 0]}', 1, "is not a ladder: 'sigmas'"),
        ('{"sigmas": ["a", 0]}', 1, "is not a ladder"),
        ('{"sigmas": [1, 2, 0]}', 2, "a ladder descends and ends in 0"),
        ('{"sigmas": [2, 1]}', 1, "a ladder descends and ends in 0"),
        ('{"sigmas": [0]}', 0, "a ladder descends and ends in 0"),
        ('{"sigmas": [[1, 0]]}', 1, "a ladder descends and ends in 0"),
        ('{"sigmas": [Infinity, 0]}', 1, "a ladder holds finite levels"),
        ('{"sigmas": [2, 1, 0]}', 5, "holds 2 levels, the solver takes 5; --steps 2"),
        ('{"sigmas": [1, 0], "solver": "dps"}', 1, "searched for the solver dps; search again with invdiff tune"),
        (
            '{"sigmas": [1, 0], "prior_sha256": "f"}',
            1,
            r"another prior \(checksum differs\); search again",
        ),
    ],
)
def test_a_spoilt_file_is_refused(content, steps, message, tmp_path):
    path = tmp_path / "l.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        stepsizes.load_ladder(path, steps, prior_sha256=SHORT, solver="dds")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"No such file.*write one with invdiff tune --ladder"):
        stepsizes.load_ladder(tmp_path / "none.json", 3)


def test_what_cannot_be_searched_is_refused():
    prior, fine = gaussian(), karras(6, 0.1, 5.0)
    denoise, x = stepsizes.euler(prior.denoise), start(prior, 5.0)
    for steps in (0, 7):
        with pytest.raises(ConfigError, match=f"a ladder of 6 levels has no {steps} to choose; take 1 to 6 steps"):
            stepsizes.search(denoise, fine, x, steps)
    with pytest.raises(ConfigError, match="the fine ladder: a ladder descends and ends in 0"):
        stepsizes.search(denoise, fine.flip(0), x, 2)
    with pytest.raises(ConfigError, match="the walk on the fine ladder is not finite"):
        stepsizes.search(denoise, fine, x * float("nan"), 2)
