"""Laws of every solver: a sample owes nothing to its neighbours, a seed means something, inputs stay as they were."""

import inspect
import math

import pytest
import torch

from invdiff import coilmaps, registry, trajectories
from invdiff.bridges import Bridge, NetworkBridge, i2sb
from invdiff.errors import CapabilityError, DivergedError
from invdiff.networks.unet import UNet
from invdiff.noise import GaussianNoise
from invdiff.noise.base import NoiseModel
from invdiff.operators import (
    NUFFT,
    Coils,
    ComplexFromChannels,
    Diagonal,
    FanBeam,
    Identity,
    Mask,
    Operator,
    ParallelRadon,
    Sense,
    UndersampledComplexFourier,
    UndersampledFourier,
    average_pool,
    gaussian_blur,
    thick_slices,
)
from invdiff.priors import GaussianPrior, NetworkPrior, Prior, SlicewisePrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import Solution, solve
from invdiff.solvers import (
    CDDB,
    CG,
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DDS3D,
    DMID,
    DPS,
    I2SB,
    MMPS,
    RSD,
    SCD,
    TPDM,
    TV,
    Adjoint,
    DDNMPlus,
    DiffPIR,
    DiffusionMBIR,
    Direct,
    FlowDPS,
    PiGDM,
    PnP,
    PnPDM,
    REDdiff,
    Wavelet,
)
from invdiff.space import Space
from invdiff.testing.solvers import check_resumes, check_sample_independence
from invdiff.verification.problems import cosines

SPACE = Space((1, 20, 18))
VOLUME = Space((1, 20, 18, 4))
SOLVERS = {
    "diffpir": DiffPIR(steps=3),
    "diffpir published": DiffPIR(steps=3, sampler="ddim", tau="constant", zeta=0.3),
    "diffpir, heun": DiffPIR(steps=2, sampler="heun", churn=0.2),
    "dps": DPS(steps=3),
    "ddrm": DDRM(steps=3),
    "ddnm": DDNM(steps=2, travel=2, repeats=2),
    "ddnmplus": DDNMPlus(steps=3),
    "dds": DDS(steps=3),
    "scd": SCD(steps=3),
    "pigdm": PiGDM(steps=3),
    "mmps": MMPS(steps=2, iterations=2),
    "flowdps": FlowDPS(steps=3),
    "flowdps, gradients": FlowDPS(steps=3, data_step="norm-gradient", step=0.1, parity="paper"),
    "daps": DAPS(steps=2),
    "daps published": DAPS(steps=2, parity="code", ode_steps=2),
    "pnpdm": PnPDM(steps=2, inner=2),
    "reddiff": REDdiff(steps=3),
    "reddiff, random": REDdiff(steps=3, order="random", optimizer="sgd", noise="inverted"),
    "rsd": RSD(steps=3, particles=2),
    "cg": CG(iterations=5),
    "tv": TV(weight=0.01, iterations=3),
    "adjoint": Adjoint(),
    "direct": Direct(),
    "pnp": PnP(iterations=3),
    "pnp, pgd": PnP(variant="pgd", iterations=3),
    "pnp, hqs": PnP(variant="hqs", iterations=3),
    "pnp, red": PnP(variant="red", iterations=3),
    "dmid": DMID(steps=3),
    "i2sb": I2SB(steps=3),
    "cddb": CDDB(steps=3),
    "cddb, cg": CDDB(steps=3, data="cg"),
    "cddb, prox": CDDB(steps=3, data="prox"),
    "tpdm": TPDM(steps=3),
    "tpdm, corrector": TPDM(steps=2, corrector=True, parity="code"),
    "dds3d": DDS3D(steps=3),
    "diffusionmbir": DiffusionMBIR(steps=3),
    "diffusionmbir, corrector": DiffusionMBIR(steps=2, corrector=True, parity="code"),
    "cddb, deep": CDDB(steps=3, deep=True),
    "wavelet": Wavelet(weight=0.01, iterations=3),
}
OPERATORS = {
    "mri": UndersampledFourier(SPACE, (torch.arange(20) % 3 == 0)[:, None]),
    "ct": ParallelRadon(SPACE, torch.arange(6) * 0.5),
    "blur": gaussian_blur(SPACE, (1.0, 1.5)),
    "lowres": average_pool(SPACE, (2, 3)),
    "denoise": Identity(SPACE),
    "volume": thick_slices(VOLUME, 2, 2.0, 2.0),
}


PAIR = Space((2, 20, 18))
RECEIVERS = Coils(ComplexFromChannels(PAIR).range, coilmaps.simulate(3, (20, 18), (1.0, 1.0), 0))
COILS = RECEIVERS @ ComplexFromChannels(PAIR)
MORE_OPERATORS = {
    "complex mri": UndersampledComplexFourier(PAIR, (torch.arange(20) % 3 == 0)[:, None]),
    "coils": Sense(RECEIVERS, (torch.arange(20) % 3 == 0)[:, None]) @ ComplexFromChannels(PAIR),
    "radial": NUFFT(COILS.range, trajectories.radial((20, 18), 7, golden=True), backend="gridding") @ COILS,
    "fan": FanBeam(SPACE, torch.arange(6) * 1.0, 60.0, 100.0),
    "inpaint": Mask(SPACE, torch.arange(18) % 2 == 0),
    "inpaint, complex": Mask(PAIR, torch.arange(18) % 2 == 0),
}


def admits(solver, A):
    operator, _, prior = solver.requirements()
    is_volume = len(A.domain.shape) == 4
    fits = not (is_volume and prior is Bridge) and (is_volume or not solver.volumes)
    return isinstance(A, operator) and fits


def pairs(operators):
    return [(s, a) for s in SOLVERS for a in operators if admits(SOLVERS[s], operators[a])]


def admitted(name):
    return next(A for A in OPERATORS.values() if admits(SOLVERS[name], A))


def network(channels=(64, 64), seed=0, pair=False):
    torch.manual_seed(seed)
    net = UNet(channels=channels, blocks=1, in_channels=1 + pair)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return net


def prior(dtype=torch.float32, space=SPACE):
    return NetworkPrior(network(pair=space == PAIR), space, mean=0.3, std=0.3, dtype=dtype)


def known(solver, space=SPACE):
    """The prior or the bridge that a solver needs, or None."""
    needs = solver.requirements()[2]
    if len(space.shape) == 4 and needs is not type(None):
        return SlicewisePrior(prior(), space, 2)
    if needs is Bridge:
        return NetworkBridge(network(pair=space == PAIR), space, i2sb(), conditional=False, std=0.3)
    return None if needs is type(None) else prior(space=space)


def problem(A, count=5):
    x = torch.rand((count, *A.domain.shape), generator=torch.Generator().manual_seed(1)).to(A.domain.dtype)
    noise = GaussianNoise(0.01)
    return InverseProblem(A, noise, noise.sample(A(x), Rng([(9, i) for i in range(count)])))


def run(solver, problem, seeds=(0, 1), **kwargs) -> Solution:
    return solve(problem, known(solver, problem.operator.domain), solver, seeds=seeds, **kwargs)


def test_every_public_solver_has_a_row():
    assert set(registry.names("solvers").values()) == {type(s) for s in SOLVERS.values()}


@pytest.mark.parametrize(("name", "physics"), pairs(OPERATORS))
def test_a_sample_owes_nothing_to_its_neighbours(name, physics):
    solver = SOLVERS[name]
    A = OPERATORS[physics]
    check_sample_independence(solver, problem(A), known(solver, A.domain))


@pytest.mark.parametrize(("name", "physics"), dict(pairs(OPERATORS)).items())
def test_a_run_goes_on_from_any_iterate_to_the_same_bits(name, physics):
    A = OPERATORS[physics]
    check_resumes(SOLVERS[name], problem(A, 2), known(SOLVERS[name], A.domain))


@pytest.mark.parametrize(("name", "physics"), pairs(MORE_OPERATORS))
def test_every_solver_runs_on_every_operator_that_its_header_admits(name, physics):
    """One and two channels, real and complex measurements; the result is finite and in the unknown's space."""
    solver, A = SOLVERS[name], MORE_OPERATORS[physics]
    samples = solve(problem(A, 2), known(solver, A.domain), solver, seeds=(0, 1)).samples
    assert samples.shape == (2, 2, *A.domain.shape)
    assert bool(torch.isfinite(samples).all())


@pytest.mark.parametrize("name", SOLVERS)
def test_same_seed_same_sample_and_inputs_stay(name):
    p = problem(admitted(name))
    y = p.y.clone()
    first, second = run(SOLVERS[name], p), run(SOLVERS[name], p)
    assert torch.equal(first.samples, second.samples)
    assert torch.equal(p.y, y)
    differ = not torch.equal(first.samples[0], first.samples[1])
    # The seeds of RED-diff are the noise of its optimiser.
    assert differ == (SOLVERS[name].gives == "sample" or isinstance(SOLVERS[name], REDdiff))


@pytest.mark.parametrize("name", SOLVERS)
def test_width_changes_only_rounding(name):
    p = problem(admitted(name))
    torch.testing.assert_close(run(SOLVERS[name], p, width=8).samples, run(SOLVERS[name], p, width=3).samples,
                               atol=2e-5, rtol=1e-4)  # fmt: skip


def test_bfloat16_network_is_alone_as_in_a_batch():
    p, net = problem(OPERATORS["mri"]), prior(torch.bfloat16)
    together = solve(p, net, DiffPIR(steps=3), seeds=(0, 1)).samples
    alone = solve(p.rows([2]), net, DiffPIR(steps=3), seeds=(1,), indices=[2]).samples
    assert torch.equal(alone[0, 0], together[1, 2])


def test_network_calls_are_one_per_step_and_chunk():
    p, net = problem(OPERATORS["mri"]), prior()
    solve(p, net, DiffPIR(steps=4), seeds=range(3))
    assert net.calls == 8


def test_antithetic_pairs_keep_each_sample_and_halve_nothing():
    """An even seed is untouched; a pair's mean is exact for a linear map of the noise."""
    space = Space(SPACE.shape, torch.float64)
    g = GaussianPrior(torch.full(SPACE.shape, 0.3).double(), torch.tensor(0.1).double())
    p = problem(UndersampledFourier(space, (torch.arange(20) % 3 == 0)[:, None]))
    plain = solve(p, g, DiffPIR(), seeds=range(2)).samples
    paired = solve(p, g, DiffPIR(), seeds=range(4), antithetic=True).samples
    assert torch.equal(plain[0], paired[0])
    torch.testing.assert_close(paired[:2].mean(0), paired[2:].mean(0), atol=1e-10, rtol=0)
    alone = solve(p.rows([2]), g, DiffPIR(), seeds=(3,), indices=[2], antithetic=True).samples
    assert torch.equal(alone[0, 0], paired[3, 2])


def test_mean_and_std_of_a_solution():
    s = run(SOLVERS["diffpir"], problem(OPERATORS["mri"]), seeds=range(3))
    torch.testing.assert_close(s.mean, s.samples.mean(0))
    torch.testing.assert_close(s.std, s.samples.std(0))
    assert run(Adjoint(), problem(OPERATORS["mri"]), seeds=(0,)).std.abs().max() == 0


def test_least_squares_fits_what_was_measured():
    p = problem(OPERATORS["blur"])
    x = run(CG(iterations=300), p, seeds=(0,)).samples[0]
    assert (p.residual_norm2(x) / p.residual_norm2(torch.zeros_like(x))).max() < 2e-4  # the noise is 2.5e-4 of |y|^2


def test_tv_lowers_its_own_objective_below_the_truths():
    x = torch.zeros(1, *SPACE.shape)
    x[..., 5:12, 4:13] = 1.0
    A, noise = OPERATORS["mri"], GaussianNoise(0.02)
    p = InverseProblem(A, noise, noise.sample(A(x), Rng([(0, 0)])))
    weight = 0.02

    def objective(u):
        dx, dy = u.diff(dim=-2)[..., :-1], u.diff(dim=-1)[..., :-1, :]
        return float(p.residual_norm2(u)) / 2 + weight * float((dx**2 + dy**2).sqrt().sum())

    tv = run(TV(weight=weight), p, seeds=(0,)).samples[0]
    assert objective(tv) < objective(x)
    assert (tv - x).norm() < (A.adjoint(p.y) - x).norm() / 3


class NonLinear(Operator):
    domain = range = SPACE

    def forward(self, x):
        return x**2


class OtherNoise(NoiseModel):
    @classmethod
    def at(cls, unit, fraction):
        return cls()

    def sample(self, clean, rng):
        return clean

    def log_prob(self, y, clean):
        return -(y - clean).abs().flatten(1).sum(1)

    def in_units(self, unit):
        return self


def test_requirements_are_read_from_the_header():
    y = torch.zeros(1, *SPACE.shape)
    with pytest.raises(CapabilityError, match="DiffPIR needs a LinearOperator as its operator; NonLinear is not one"):
        solve(InverseProblem(NonLinear(), GaussianNoise(0.1), y), prior(), DiffPIR())
    with pytest.raises(CapabilityError, match="DiffPIR needs a GaussianNoise as its noise; OtherNoise is not one"):
        solve(InverseProblem(Identity(SPACE), OtherNoise(), y), prior(), DiffPIR())
    with pytest.raises(CapabilityError, match="DPS needs a Prior as its prior; None is not one"):
        solve(problem(OPERATORS["mri"]), None, DPS())


def would_do(solver, problem, prior):
    with pytest.raises(CapabilityError) as e:
        solve(problem, prior, solver)
    _, _, others = str(e.value).partition("is not one; ")
    return others.removesuffix(" would do").split(", ")


def test_a_refusal_names_solvers_that_would_do():
    """At most four, each of which takes all three parts; those that use the prior before those that do not."""
    net, y, known = prior(), torch.zeros(1, *SPACE.shape), registry.names("solvers")
    cases = [
        (DDRM(steps=2), problem(OPERATORS["ct"], 1), net),
        (DiffPIR(steps=2), InverseProblem(NonLinear(), GaussianNoise(0.1), y), net),
        (DiffPIR(steps=2), InverseProblem(Identity(SPACE), OtherNoise(), y), net),
    ]
    for solver, asked, given in cases:
        names = would_do(solver, asked, given)
        assert 1 <= len(names) <= 4
        for name in names:
            needs = known[name].requirements()
            assert isinstance(asked.operator, needs[0])
            assert isinstance(asked.noise, needs[1])
        assert known[names[0]].requirements()[2] is Prior
    assert would_do(DPS(steps=2), problem(OPERATORS["ct"], 1), None) == ["adjoint", "cg", "direct", "tv"]


def test_a_refusal_names_nothing_where_nothing_would_do():
    y = torch.zeros(1, *SPACE.shape)
    with pytest.raises(CapabilityError, match=r"None is not one$"):
        solve(InverseProblem(NonLinear(), OtherNoise(), y), None, DPS())


def test_dps_takes_any_differentiable_operator():
    y = torch.full((2, *SPACE.shape), 0.25)
    x = solve(InverseProblem(NonLinear(), GaussianNoise(0.01), y), prior(), DPS(steps=5)).mean
    assert bool(torch.isfinite(x).all())


def test_a_diverging_run_names_step_and_sigma():
    class Bad(GaussianPrior):
        def denoise(self, x, sigma):
            return super().denoise(x, sigma) / (1 if float(sigma[0]) > 1 else 0)

    bad = Bad(torch.zeros(SPACE.shape), torch.tensor(0.1))
    with pytest.raises(DivergedError, match=r"DiffPIR, step \d+, sigma 0\.\d+: not finite; raise lam"):
        solve(problem(OPERATORS["mri"]), bad, DiffPIR())


def test_every_solver_says_what_it_gives_and_where_it_comes_from():
    for name, cls in registry.names("solvers").items():
        assert cls.gives in ("sample", "point estimate")
        assert inspect.getdoc(cls), name
        assert cls.paper or cls in (Adjoint, Direct)
        assert issubclass(cls.requirements()[0], Operator)
        assert cls.requirements()[2] in (type(None), Prior, Bridge)


def test_proximal_steps_run_until_they_are_good_enough():
    """CT at 10^6 photons, whose weights make A^H A ill-conditioned: eight steps of conjugate gradients blur it."""
    n, views = 48, 60
    space, f = Space((1, n, n)), torch.arange(n)
    B, spectrum = cosines(n).float(), (1 + f[:, None] ** 2 + f**2) ** -1.5
    rows, back = (lambda x: B.T @ x @ B), (lambda modes: B @ modes @ B.T)
    smooth = GaussianPrior(torch.full(space.shape, 0.4), 0.04 * spectrum / spectrum.mean(), analysis=rows,
                           synthesis=back, sigma_min=0.002, sigma_max=20.0)  # fmt: skip
    x = smooth.sample(Rng([(0, 0)]).normal("image", 0, torch.zeros(1, *space.shape)))
    radon = ParallelRadon(space, torch.arange(views) * (math.pi / views))
    k = 5 / float(radon(x).max())  # at most exp(-5) of the photons arrive
    A = Diagonal(radon.range, 1e3 * k * torch.exp(-k * radon(x)[0] / 2)) @ radon
    noise = GaussianNoise(1.0)
    p = InverseProblem(A, noise, noise.sample(A(x), Rng([(0, 0)])))
    enough, eight = (solve(p, smooth, s, width=1).mean for s in (DiffPIR(), DiffPIR(cg_iterations=8)))
    assert (enough - x).norm() < 0.8 * (eight - x).norm()
    assert float(p.residual_norm2(enough)) < A.range.reals < float(p.residual_norm2(eight))
