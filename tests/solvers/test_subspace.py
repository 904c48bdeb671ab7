"""DDRM, DDNM, DDNM+ and DDS: golden rows by exact recursion, Monte Carlo, and what each promises of the data."""

import pytest
import torch

from invdiff.networks.unet import UNet
from invdiff.noise import GaussianNoise
from invdiff.operators import Diagonal, Identity, Mask, UndersampledFourier, average_pool
from invdiff.priors import NetworkPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import solve
from invdiff.solvers import DDNM, DDRM, DDS, DDNMPlus, DiffPIR
from invdiff.solvers.guided import noise_of
from invdiff.solvers.samplers import Estimate, ddim
from invdiff.space import Space
from invdiff.testing.golden import law, prior_g, problem_g, sample, z_scores
from invdiff.testing.solvers import affine_law

PAPER = {"schedule": "ddpm", "parity": "paper"}


def diagonal():
    """Problem G with an operator that has its decomposition: V = 1."""
    return problem_g(A=Diagonal(Space((1, 3), torch.float64), torch.tensor([1.0, 0.5, 0.0]).double()))


def near(got, want, tolerance=1e-4):
    torch.testing.assert_close(got, torch.tensor(want).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("steps", "mean", "std"),
    [
        (20, (0.9175, 0.8810), (0.1894, 0.1918, 0.7964)),
        (100, (0.9601, 0.9793), (0.1168, 0.1561, 0.8513)),
        (1000, (0.9831, 1.0956), (0.0694, 0.1038, 0.8692)),
    ],
)
def test_ddrm_is_its_golden_row(steps, mean, std):
    """More steps make it worse: too near the data, too narrow. Its own start."""
    solver, problem = DDRM(steps=steps, **PAPER), diagonal()
    top = float(solver.sigmas(prior_g())[0])
    sy = torch.tensor([[0.2, 0.4, 0.0]]).double()
    yb = torch.tensor([[1.0, 1.2, 0.0]]).double()
    # The start of the golden rows: N(yb, sigma_T^2 - sy^2) where measured, N(0, sigma_T^2) elsewhere.
    got_mean, got_std = affine_law(solver, problem, prior_g(), (top**2 - sy**2).sqrt(), yb)
    near(got_mean[0, :2], mean)
    near(got_std[0], std)


def test_ddrm_monte_carlo_agrees():
    solver, problem = DDRM(steps=20, **PAPER), diagonal()
    x = solve(problem, prior_g(), solver, seeds=range(4000), width=4000).samples[:, 0, 0]
    std = torch.tensor([0.1894, 0.1918, 0.7964]).double()
    z_mean, z_std = z_scores(x, torch.tensor([0.9175, 0.8810, -0.3]).double(), std)
    assert z_mean.abs().max() < 4
    assert z_std.abs().max() < 4


def test_ddnm_is_its_golden_row():
    """Without noise of the model: exactly pinv(y), no spread, and the tau-shrunk prior in the null space."""
    mean, std = law(DDNM(steps=100, zeta=0.85**2, **PAPER), problem_g(sigma=0.0))
    near(mean[:2], (1.0, 1.2), 1e-6)
    near(std, (0.0, 0.0, 0.8513))


@pytest.mark.parametrize("travel", [(1, 1), (3, 2)])
def test_ddnm_fits_noiseless_data_with_any_network(travel):
    """||A out - y|| <= 1e-5 ||y|| in float32, with a random network that was never trained."""
    torch.manual_seed(0)
    space = Space((1, 16, 12))
    net = NetworkPrior(UNet(channels=(64,), blocks=1), space, mean=0.3, std=0.3)
    for A in (UndersampledFourier(space, (torch.arange(16) % 2 == 0)[:, None]), average_pool(space, (2, 2))):
        y = A(torch.rand(2, *space.shape))
        p = InverseProblem(A, GaussianNoise(0.0), y)
        x = solve(p, net, DDNM(steps=6, travel=travel[0], repeats=travel[1])).samples[0]
        assert float((A(x) - y).norm() / y.norm()) < 1e-5


def test_ddnm_time_travel_visits():
    solver = DDNM(steps=5, travel=2, repeats=2)
    assert solver._path() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    assert solver.length == 10


def test_ddnm_with_noise_keeps_the_null_space_as_wide_as_the_prior():
    """Safe mode against the published scalar form, which shrinks what was not measured too."""
    safe, paper = (law(DDNM(steps=100, schedule="ddpm", parity=p), problem_g())[1] for p in ("safe", "paper"))
    unconditional = law(DiffPIR(steps=100, schedule="ddpm", sampler="ddim", zeta=0.7225), problem_g())[1]
    torch.testing.assert_close(safe[2], unconditional[2], rtol=1e-6, atol=0)
    assert safe[2] > 0.95
    assert paper[2] < 0.85


def test_ddnmplus_is_ddrm_but_for_its_start():
    """The first level forgets the start of measured modes: with a prior of independent modes nothing differs."""
    problem = diagonal()
    one, other = (solve(problem, prior_g(), s, seeds=range(20)).samples for s in (DDRM(), DDNMPlus()))
    assert torch.equal(one, other)
    start = [s.start(problem, prior_g(), Rng()) for s in (DDRM(), DDNMPlus())]
    assert (start[0] - start[1]).abs().max() > 0.1
    assert not torch.equal(one, solve(problem, prior_g(), DDRM(eta_b=0.5), seeds=range(20)).samples)


@pytest.mark.parametrize(("solver", "tolerance"), [(DDRM, 0.02), (DDNMPlus, 0.02), (DDNM, 1e-6), (DDS, 1e-3)])
def test_without_noise_and_with_everything_measured_the_output_is_y(solver, tolerance):
    """DDRM's last level returns the denoised image: y to the lowest sigma."""
    y = (1.0, 0.6, -2.0)
    problem = problem_g(sigma=0.0, y=y, A=Identity(Space((1, 3), torch.float64)))
    x = sample(solver(), problem, 8)
    assert (x - torch.tensor(y)).abs().max() < tolerance


@pytest.mark.parametrize(
    ("gamma", "mean", "std"),
    [(1.0, (0.9988, 1.121), (0.0156, 0.0915, 0.8513)), (5.0, (1.0, 1.198), (0.0018, 0.0113, 0.8513))],
)
def test_dds_is_its_golden_row(gamma, mean, std):
    """Three steps solve the proximal problem of three eigenvalues exactly."""
    solver = DDS(steps=100, gamma=gamma, zeta=0.85**2, cg_iterations=3, **PAPER)
    problem = problem_g()
    got_mean, got_std = law(ExactDDS(solver), problem)
    near(got_mean[:2], mean, 6e-4)
    near(got_std, std)


def test_dds_conjugate_gradients_are_the_proximal_step():
    """CG is not affine, so the golden rows solve exactly; on this problem both agree to rounding."""
    solver, problem = DDS(steps=20, gamma=2.0, cg_iterations=3, **PAPER), problem_g()
    torch.testing.assert_close(sample(solver, problem, 50), sample(ExactDDS(solver), problem, 50), atol=1e-9, rtol=0)


class ExactDDS:
    """A DDS whose conjugate gradients are replaced by the closed form."""

    def __init__(self, solver):
        self.solver = solver

    def sigmas(self, prior):
        return self.solver.sigmas(prior)

    def iterate(self, problem, prior, rng, start):
        def denoise(z, step, s0, s1):
            del step, s1
            x0 = prior.denoise(z, torch.full((len(z),), s0, dtype=torch.float64))
            moved = problem.operator.prox(problem.y, x0, problem.operator.norm2 / self.solver.gamma, iterations=200)
            return Estimate(moved, noise_of(z, x0, s0))

        return ddim(denoise, self.solver.levels(prior, start), start, rng, tau=self.solver.share)


def test_mask_inpainting_shows_the_data():
    space = Space((1, 3), torch.float64)
    problem = problem_g(sigma=0.0, y=(1.0, 0.6), A=Mask(space, torch.tensor([True, True, False])))
    for solver in (DDNM(), DDS(cg_iterations=2)):
        x = solve(problem, prior_g(), solver, seeds=range(3)).samples[:, 0, 0]
        torch.testing.assert_close(x[:, :2], problem.y[0].expand(3, -1), atol=1e-6, rtol=0)
