"""Warm starts: the law of the start, what it leaves of a neighbour's error in closed form, order, bits, refusals."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from invdiff import coilmaps, load, reconstruct, simulate
from invdiff.acquisitions import MRI
from invdiff.errors import CapabilityError, ConfigError
from invdiff.networks import UNet
from invdiff.noise import GaussianNoise, PoissonNoise
from invdiff.operators import FFT, Coils, ComplexFromChannels, Identity, Mask, Operator
from invdiff.planes import Planes
from invdiff.priors import GaussianPrior, NetworkPrior, WarmPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import solve
from invdiff.solvers import (
    DDNM,
    DDRM,
    DPS,
    MMPS,
    RSD,
    TV,
    DDNMPlus,
    DiffPIR,
    DiffusionSolver,
    Iterate,
    PnP,
    PnPDM,
    REDdiff,
)
from invdiff.space import Space
from invdiff.testing.solvers import affine_law
from invdiff.volumes import Volume
from invdiff.warm import Warm, below, chain_of, chunks_of, levels, solve_chain

MEAN, C, NOISE = 0.4, 0.09, 0.1  # a Gaussian prior voxel by voxel, and the noise of what is measured
HALF = 64


def gaussian(count):
    shape = (1, 1, count)
    return GaussianPrior(torch.full(shape, MEAN).double(), torch.tensor(C).double(), sigma_min=0.002, sigma_max=20.0)


def half_measured(prior, values=(0.7,)):
    """The first half of the voxels is measured, each with the same value; a problem for each value."""
    n = prior.space.shape[-1]
    A = Mask(prior.space, (torch.arange(n) < n // 2)[None])
    y = torch.tensor(values).double()[:, None, None].expand(-1, *A.range.shape)
    return InverseProblem(A, GaussianNoise(NOISE), y.contiguous())


def posterior_of(y):
    """Means and variances: measured, not measured."""
    v = C * NOISE**2 / (C + NOISE**2)
    return torch.tensor([MEAN + v / NOISE**2 * (y - MEAN), MEAN]).double(), torch.tensor([v, C]).double()


def z_scores(x, mean, variance):
    """Of mean and variance of independent draws, (N, *)."""
    n = x.numel()
    of_mean = (float(x.mean()) - mean) / math.sqrt(variance / n)
    of_variance = (float((x - mean).square().mean()) / variance - 1) / math.sqrt(2 / n)
    return of_mean, of_variance


@pytest.mark.parametrize("solver", [DiffPIR(), DPS(steps=20), DDNMPlus(), DDRM()], ids=lambda s: type(s).__name__)
def test_the_start_is_the_neighbour_and_noise_of_the_level(solver):
    prior = gaussian(4000)
    problem = half_measured(prior).rows([0, 0])
    run = below(solver, prior, 0.2)
    sigma = float(run.sigmas(prior)[0])
    assert 0.2 <= sigma < 0.5
    near = torch.stack([torch.full(prior.space.shape, m).double() for m in (0.1, -2.0)])
    x = run.start(problem, WarmPrior(prior, near), Rng([(0, 0), (1, 0)]))
    free = slice(2000, None) if isinstance(solver, DDRM) and not isinstance(solver, DDNMPlus) else slice(None)
    for row, mean in zip(x[..., free], (0.1, -2.0), strict=True):
        assert max(map(abs, z_scores(row, mean, sigma**2))) < 4


def test_neighbours_of_one_posterior_give_draws_from_it():
    """Three equal problems, one seed a chain of its own; mmps is exact but for its steps."""
    prior = gaussian(2 * HALF)
    problem = half_measured(prior, (0.7, 0.7, 0.7))
    solver = MMPS(steps=200, sigma_max=20.0)
    found, done = solve_chain(problem, prior, solver, [[0], [1], [2]], sigma=0.3, seeds=range(100), width=100)
    assert done["nfe"] == [200, 68, 68]
    for part, m, v in zip(found[:, 1:].unflatten(-1, (2, HALF)).unbind(-2), *posterior_of(0.7), strict=True):
        for link in part.unbind(1):
            assert max(map(abs, z_scores(link, float(m), float(v)))) < 4


def test_an_error_of_the_neighbour_shrinks_as_the_level_grows():
    """Off by d, the sample is off by d v / (v + sigma_w^2), and its spread is right."""
    prior, (means, variances) = gaussian(2 * HALF), posterior_of(0.7)
    problem, d = half_measured(prior).rows([0] * 100), 0.5
    solver, g = MMPS(steps=200, sigma_max=20.0), torch.Generator().manual_seed(0)
    spread = variances.sqrt().repeat_interleave(HALF) * torch.randn((100, 1, 1, 2 * HALF), generator=g).double()
    start, left = means.repeat_interleave(HALF) + d + spread, []
    for asked in (0.05, 0.1, 0.3, 1.0):
        run = below(solver, prior, asked)
        sigma = float(run.sigmas(prior)[0])
        x = solve(problem, WarmPrior(prior, start), run, width=100).samples[0]
        for part, m, v in zip(x.unflatten(-1, (2, HALF)).unbind(-2), means, variances, strict=True):
            bias = d * float(v) / (float(v) + sigma**2)
            assert max(map(abs, z_scores(part, float(m) + bias, float(v)))) < 4
            left.append(bias)
    assert left[::2] == sorted(left[::2], reverse=True)
    assert left[1::2] == sorted(left[1::2], reverse=True)
    assert left[-2] < 0.01 * d < 0.05 * d < left[-1], "what the data tell is forgotten first"


@pytest.mark.parametrize(
    ("sigma", "steps", "bias", "unmeasured"),
    [(0.03, 3, 0.867, 0.985), (0.07, 4, 0.613, 0.941), (0.14, 5, 0.309, 0.817), (0.25, 6, 0.131, 0.581),
     (0.43, 7, 0.061, 0.320), (0.72, 8, 0.039, 0.147), (1.1, 9, 0.031, 0.063)],
)  # fmt: skip
def test_diffpir_with_its_own_levels_as_in_the_docs(sigma, steps, bias, unmeasured):
    """Exact recursion, the neighbour off by one posterior deviation; what 12 levels give cold: 0.03 and 0."""
    prior, (means, variances) = gaussian(2), posterior_of(0.7)
    run = below(DiffPIR(), prior, sigma)
    assert run.steps == steps
    top = float(run.sigmas(prior)[0])
    for i, want in enumerate((bias, unmeasured)):
        sd = float(variances[i].sqrt())
        spread = math.sqrt(sd**2 + top**2)
        mean, std = affine_law(run, half_measured(prior), prior, spread, float(means[i]) + sd)
        assert float(mean.flatten()[i] - means[i]) / sd == pytest.approx(want, abs=1.1e-3)
        assert float(std.flatten()[i]) / sd == pytest.approx(1, abs=0.09)


@dataclass(frozen=True, kw_only=True)
class AddData(DiffusionSolver[Identity, GaussianNoise]):
    """Its result is start + y: along a chain, sums."""

    def iterate(self, problem, prior, rng, start):
        yield Iterate(0, 0.0, start.x + problem.y, start.x)


class SeedRng(Rng):
    """Draws the number of the seed."""

    def normal(self, name, step, like):
        return torch.tensor([float(s) for s, _ in self.streams]).to(like).reshape(-1, 1, 1, 1).expand_as(like)


def series(frames=2, slices=3):
    """Stored values 10 frame + slice, as measured by a scanner that changes nothing."""
    numbers = 10.0 * torch.arange(frames)[:, None] + torch.arange(slices) + 1
    data = numbers[:, None, None, :].expand(-1, 16, 12, -1).contiguous()
    return simulate(Volume(data, torch.eye(4).numpy()), MRI(acceleration=1, image="real"), noise=0.0)


@pytest.mark.parametrize("width", [1, 2, 8])
@pytest.mark.parametrize("along", ["slices", "frames"])
def test_each_seed_goes_along_its_own_chain(along, width):
    space = Space((1, 2, 2), torch.float64)
    prior = GaussianPrior(torch.zeros(space.shape).double(), torch.tensor(1e-30).double(), sigma_max=20.0)
    numbers = torch.tensor([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]]).double()
    y = numbers.flatten()[:, None, None, None].expand(-1, *space.shape).contiguous()
    chain = chain_of(series(), Warm(along=along))
    assert chain == ([[0, 3], [1, 4], [2, 5]] if along == "slices" else [[0, 1, 2], [3, 4, 5]])
    problem, solver = InverseProblem(Identity(space), GaussianNoise(0.1), y), AddData()
    steps = []
    how = {"seeds": (0, 4, 7), "width": width, "noise": SeedRng, "callback": steps.append}
    found, done = solve_chain(problem, prior, solver, chain, sigma=0.3, **how)
    axis = 1 if along == "slices" else 0
    ladder = solver.sigmas(prior)
    level = float(ladder[ladder >= 0.3].min())
    noise = 4.0 + level * torch.arange(numbers.shape[axis]).unsqueeze(1 - axis)
    want = torch.stack([numbers.cumsum(axis) + seed * noise for seed in (0, 4, 7)])
    got = found[..., 0, 0, 0].unflatten(1, (2, 3))
    torch.testing.assert_close(got, want)
    assert done["sigma"][0] is None
    assert done["sigma"][1:] == [pytest.approx(level, abs=1e-6)] * (len(chain) - 1)
    assert len(steps) == chunks_of(chain, 3, width) == len(chain) * -(-3 * len(chain[0]) // width)


PAIR = Space((2, 16, 12))


def coils():
    """Four slices, each with coil maps of its own."""
    maps = coilmaps.simulate(2, (4, 16, 12), (1.0, 1.0, 1.0), 0).movedim(1, 0)
    A = Coils(ComplexFromChannels(PAIR).range, maps) @ ComplexFromChannels(PAIR)
    A = Mask(A.range, (torch.arange(16) % 2 == 0)[:, None]) @ FFT(A.range) @ A
    x = torch.rand((4, *PAIR.shape), generator=torch.Generator().manual_seed(0))
    return InverseProblem(A, GaussianNoise(0.02), GaussianNoise(0.02).sample(A(x), Rng([(0, p) for p in range(4)])))


def network_prior(width):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(channels=(16, 16), blocks=1, in_channels=2)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.05)
    return NetworkPrior(net, PAIR, mean=0.3, std=0.3, width=width)


@pytest.mark.parametrize("antithetic", [False, True])
def test_a_sample_is_the_same_alone_and_among_others(antithetic):
    problem, chain, how = coils(), [[0, 1], [2, 3]], {"sigma": 0.3, "antithetic": antithetic}
    together = solve_chain(problem, network_prior(3), DiffPIR(steps=6), chain, seeds=(0, 1, 2), width=3, **how)[0]
    alone, _ = solve_chain(problem, network_prior(3), DiffPIR(steps=6), chain, seeds=(2,), width=3, **how)
    assert torch.equal(alone[0], together[2])
    assert not torch.equal(together[0], together[2])
    for width in (1, 8):
        other = solve_chain(problem, network_prior(width), DiffPIR(steps=6), chain, seeds=(0, 1, 2), width=width, **how)
        torch.testing.assert_close(other[0], together, atol=1e-5, rtol=1e-5)


def test_a_start_from_the_highest_level_is_cold_to_the_bit():
    problem, prior, solver = coils(), network_prior(2), DiffPIR(steps=4)
    found, done = solve_chain(problem, prior, solver, [[0, 1], [2, 3]], sigma=100.0, seeds=(0, 1), width=2)
    assert torch.equal(found, solve(problem, prior, solver, seeds=(0, 1), width=2).samples)
    assert (done["sigma"], done["nfe"], done["calls_saved"]) == ([None, None], [4, 4], 0.0)


def test_levels_are_twice_the_difference_and_the_noise_of_one():
    space, g = Space((1, 64, 64), torch.float64), torch.Generator().manual_seed(0)
    x = torch.rand((1, *space.shape), generator=g).double() + torch.tensor([0.0, 0.0, 0.3, 1.0]).reshape(-1, 1, 1, 1)
    noise = GaussianNoise(0.05)
    problem = InverseProblem(Identity(space), noise, noise.sample(x, Rng([(0, p) for p in range(4)])))
    found = levels(problem, [([0], [1]), ([1], [2]), ([0, 0], [2, 3])])
    assert found == pytest.approx([2 * 0.05, 2 * math.hypot(0.3, 0.05), 2 * math.hypot(1.0, 0.05)], rel=0.03)
    counted = replace(problem, noise=PoissonNoise(10.0))
    assert levels(counted, [([0], [1])]) == pytest.approx([2 * math.sqrt(2) * 0.05], rel=0.03), "nothing is taken off"
    assert levels(replace(problem, y=problem.y * 0, noise=GaussianNoise(0.0)), [([0], [1])]) == [0.0]


@pytest.mark.parametrize("schedule", ["karras", "flow"])
def test_levels_below_a_start_are_those_of_the_ladder(schedule):
    prior, solver = gaussian(2), DiffPIR(schedule=schedule)
    ladder = solver.sigmas(prior)
    run = below(solver, prior, float(ladder[5]) * 0.99)
    torch.testing.assert_close(run.sigmas(prior), ladder[5:])
    assert below(solver, prior, 0.0).steps == below(solver, prior, 1e-6).steps == 2, "never the last level alone"
    assert below(solver, prior, float(ladder[0])) is below(solver, prior, 50.0) is None
    assert below(DiffPIR(steps=1), prior, 0.1) is None


def test_schedules_that_settings_cannot_cut_are_refused():
    for solver in (DiffPIR(schedule="ddpm"), DiffPIR(schedule="flow", shift=3.0)):
        with pytest.raises(
            ConfigError, match=f"the lower levels of the schedule {solver.schedule} are no ladder of thei"
        ):
            below(solver, gaussian(2), 0.1)


@pytest.mark.parametrize("solver", [PnP(), PnPDM(), REDdiff(), RSD(), TV()], ids=lambda s: type(s).__name__)
def test_other_solvers_are_refused_and_some_are_named(solver):
    prior = gaussian(4)
    message = (
        f"a warm start needs a solver that walks down a noise ladder from its start; {type(solver).__name__} does not; "
        "daps, ddnm, ddnmplus, ddrm would do"
    )
    with pytest.raises(CapabilityError, match=message):
        solve_chain(half_measured(prior, (0.1, 0.2)), prior, solver, [[0], [1]])


def test_a_ladder_from_a_file_is_refused():
    prior = gaussian(4)
    with pytest.raises(
        CapabilityError, match="DiffPIR's schedule, and the ladder of a file has no schedule; leave --warm"
    ):
        solve_chain(half_measured(prior, (0.1, 0.2)), prior, DiffPIR(ladder="some.json"), [[0], [1]])


class Square(Operator):
    """Not linear."""

    def __init__(self, space):
        super().__init__()
        self.domain = self.range = space

    def forward(self, x):
        return x**2


def test_operators_without_direct_images_need_a_level():
    prior = gaussian(4)
    problem = InverseProblem(Square(prior.space), GaussianNoise(0.1), torch.zeros((2, 1, 1, 4)).double())
    with pytest.raises(
        CapabilityError, match=r"Square has no direct images to compare neighbours by; give warm\.sigma"
    ):
        solve_chain(problem, prior, DPS(steps=3), [[0], [1]])
    found, _ = solve_chain(problem, prior, DPS(steps=3), [[0], [1]], sigma=0.1)
    assert found.isfinite().all()


def test_settings_that_mean_nothing():
    for along, sigma in (("time", None), ("slices", 0.0), ("frames", float("nan"))):
        with pytest.raises(ConfigError, match="warm starts go along slices or frames, at a noise level above 0; got "):
            Warm(along=along, sigma=sigma)


def test_chains_that_are_none():
    with pytest.raises(ConfigError, match=r"there is one frame only; leave --warm, or take --warm slices$"):
        chain_of(series(1, 3), Warm(along="frames"))
    with pytest.raises(ConfigError, match=r"there is one slice only; leave --warm, or take --warm frames$"):
        chain_of(series(2, 1), Warm(along="slices"))
    for along in ("slices", "frames"):
        with pytest.raises(ConfigError, match=f"there is one {along[:-1]} only; leave --warm$"):
            chain_of(series(1, 1), Warm(along=along))
    with pytest.raises(ConfigError, match="here a volume is one; choose --warm frames, or leave --planes"):
        chain_of(series().as_volumes(), Warm(along="slices"))
    assert chain_of(series().as_volumes(), Warm(along="frames")) == [[0], [1]]


@pytest.fixture(scope="module")
def measured(epi_path):
    """Two frames of three small slices, of a real phase."""
    data = load(epi_path).data[:, 40:88, 30:70, 10:13].clamp_min(0).contiguous()
    return simulate(Volume(data, torch.eye(4).numpy()), MRI(acceleration=2, image="real"), noise=0.01)


def test_a_series_is_on_record(measured):
    cold = reconstruct(measured, DiffPIR(), seeds=(0, 1))
    r = reconstruct(measured, DiffPIR(), seeds=(0, 1), warm=Warm(along="frames"))
    assert torch.equal(r.samples[:, 0], reconstruct(measured, DiffPIR(), seeds=(0, 1), width=6).samples[:, 0])
    done = r.facts["warm"]
    assert done["along"] == "frames"
    assert (done["sigma_asked"], done["sigma"][0]) == (None, None)
    assert done["sigma"][1] == pytest.approx(0.141805), "the two frames are alike: the ladder's next level above 0.1"
    assert r.facts["nfe_per_sample"] == done["nfe_per_sample"] == sum(done["nfe"]) / 2 < 12
    assert r.facts["network_batch"] == 6, "three slices, two samples"
    assert r.facts["network_calls"] == sum(done["nfe"])
    assert done["calls_saved"] == pytest.approx(1 - sum(done["nfe"]) / 24, abs=1e-4)
    assert cold.facts["warm"] is None
    near = (r.samples[:, 3:] - cold.samples[:, 3:]).square().mean().sqrt()
    apart = (cold.samples[0, 3:] - cold.samples[1, 3:]).square().mean().sqrt()
    assert 0.02 * apart < near < 1.5 * apart, "another draw from about the same posterior"


def test_volumes_go_from_frame_to_frame(measured):
    planes, how = Planes((2, 0), shared=0.3), Warm(along="frames", sigma=0.2)
    r = reconstruct(measured, DiffPIR(steps=6), seeds=(0,), planes=planes, warm=how)
    cold = reconstruct(measured, DiffPIR(steps=6), seeds=(0,), planes=planes)
    assert torch.equal(r.samples[:, 0], cold.samples[:, 0])
    assert r.facts["warm"]["nfe"] == [6, 4]
    assert r.samples.isfinite().all()
    with pytest.raises(ConfigError, match="warm starts along slices need slices that are problems of their own"):
        reconstruct(measured, DiffPIR(), planes=planes, warm=Warm(along="slices"))


def test_solvers_with_a_spread_of_the_prior_keep_it(measured):
    """daps and pigdm ask at every level how broad the prior is: that of the start, 0, would stop them."""
    from invdiff.solvers import DAPS

    r = reconstruct(measured, DAPS(steps=6), seeds=(0,), warm=Warm(along="slices", sigma=0.5))
    assert r.facts["data_fit"]["first_sample"]["chi2"] < 3


def test_no_warm_start_at_all_is_told(measured):
    r = reconstruct(measured, DDNM(steps=3), seeds=(0,), warm=Warm(along="frames", sigma=9.0))
    told = "no neighbours are alike enough for a warm start: all levels were walked; leave --warm, or set warm.sigma"
    assert told in r.facts["warnings"]
    r = reconstruct(measured, DDNM(steps=3), seeds=(0,), warm=Warm(along="frames", sigma=0.1))
    assert told not in r.facts["warnings"]
