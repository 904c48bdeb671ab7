"""PnP against the closed form of where it ends; DMID against the posterior mean; wavelets against their objective."""

import math

import pytest
import torch

from invdiff.errors import CapabilityError
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity, Mask, UndersampledComplexFourier, UndersampledFourier
from invdiff.priors import GaussianPrior
from invdiff.priors.gaussian import posterior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solution import solve
from invdiff.solvers import CG, DMID, PnP, Wavelet
from invdiff.solvers.wavelet import coefficients, shrink
from invdiff.space import Space
from invdiff.testing.golden import A_DIAGONAL, TRUE_MEAN, prior_g, problem_g
from invdiff.testing.solvers import affine_law
from invdiff.verification.problems import known, matrix, reals

LONG = {"sigma_max": None, "iterations": 3000, "cg_iterations": 100}
HQS = (0.9690, 1.0303, -0.3)


def end(solver, problem=None, prior=None):
    return solve(problem or problem_g(), prior or prior_g(), solver, width=1).samples.flatten()


@pytest.mark.parametrize(
    ("variant", "sigma", "want"),
    [("pgd", 0.2, TRUE_MEAN), ("admm", 0.2, TRUE_MEAN), ("admm", 0.7, TRUE_MEAN), ("hqs", 0.5, HQS), ("red", 0.5, HQS)],
)
def test_pnp_ends_at_its_golden_row(variant, sigma, want):
    found = end(PnP(variant=variant, sigma=sigma, **LONG))
    torch.testing.assert_close(found, torch.tensor(want).double(), atol=5.1e-5, rtol=0)  # the table has four digits


def fixed_point(k, C, power):
    """Mode of the likelihood times N(m, C / power)."""
    A, y = matrix(k.problem.operator), reals(k.problem.y)[0]
    s, m = k.problem.noise.sigma, k.prior.mean.flatten()
    H = A.T @ A / s**2 + power * torch.linalg.inv(C)
    return m + torch.linalg.solve(H, A.T @ (y - A @ m) / s**2)


@pytest.mark.parametrize("name", ["gaussian, denoise", "gaussian, blur", "gaussian, mri", "gaussian, inpaint"])
@pytest.mark.parametrize(
    ("variant", "sigma", "lam"),
    [("pgd", 0.05, 1.0), ("pgd", 0.05, 2.0), ("admm", 0.1, 1.0), ("admm", 0.1, 0.5), ("hqs", 0.1, 1.0),
     ("hqs", 0.1, 3.0), ("red", 0.1, 1.0)],
)  # fmt: skip
def test_pnp_ends_at_its_closed_form(name, variant, sigma, lam):
    """Correlated Gaussian; pgd and admm: the prior to the power lam; hqs and red: a Moreau envelope of it."""
    (k,) = (k for k in known() if k.name == name)
    eye = torch.eye(64).double()
    C = matrix(lambda x: k.prior.synthesis(k.prior.variance * k.prior.analysis(x)))
    if variant in ("hqs", "red"):
        C = C + sigma**2 * eye
    # At lam = 1 hqs is the prior's envelope; for other lam the penalty (x - D(x)) lam / sd^2 is the envelope's to lam.
    want = fixed_point(k, C, lam)
    found = end(PnP(variant=variant, sigma=sigma, lam=lam, **LONG | {"iterations": 4000}), k.problem, k.prior)
    assert float((found - want).norm() / want.norm()) < 1e-5


def test_pnp_limits_the_step_of_pgd():
    """A denoiser of 0.5 where s / ||A|| is 0.2: the prior to the power 0.5^2 / 0.2^2."""
    found = end(PnP(variant="pgd", sigma=0.5, **LONG))
    prior, power = prior_g(), 0.25 / 0.04
    want, _ = posterior(prior.mean[0], torch.diag(prior.variance[0]) / power, torch.diag(A_DIAGONAL),
                        torch.tensor([1.0, 0.6, 0.0]).double(), 0.2)  # fmt: skip
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["pgd", "admm", "hqs", "red"])
def test_pnp_without_noise_keeps_the_measurement(variant):
    """No division by it: A = I ends at y, up to what the weakest denoiser (0.01 here) takes away."""
    y = (1.0, 0.6, -2.0)
    found = end(PnP(variant=variant, iterations=50), problem_g(torch.ones(3).double(), sigma=0.0, y=y))
    torch.testing.assert_close(found, torch.tensor(y).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("variant", "tolerance"), [("hqs", 0.12), ("admm", 0.06)])
def test_annealing_takes_tens_of_steps(variant, tolerance):
    """From 2 to s = 0.2 in 24 steps: as near to the mean as hqs ever comes."""
    found = end(PnP(variant=variant, sigma_max=2.0))
    torch.testing.assert_close(found, torch.tensor(TRUE_MEAN).double(), atol=tolerance, rtol=0)


def test_pnp_strengths_fall_geometrically_from_one_given_level_to_the_other():
    got = torch.tensor(PnP(iterations=3, sigma=0.1, sigma_max=0.4).strengths(problem_g(), prior_g()))
    torch.testing.assert_close(got, torch.tensor([0.4, 0.2, 0.1]))
    assert PnP(iterations=2).strengths(problem_g(), prior_g()) == pytest.approx([0.2, 0.2])  # never ascending
    assert PnP(iterations=1, sigma=0.1).strengths(problem_g(), prior_g()) == [0.1]


def denoising(sigma=50 / 127.5, variance=0.25):
    """M1 to M3: data of variance 0.25 on [-1, 1], noise 50 of 255."""
    prior = GaussianPrior(torch.tensor([[0.1, -0.2, 0.0]]).double(), torch.tensor(variance).double())
    y = torch.tensor([[[0.7, -0.9, 0.1]]]).double()
    return InverseProblem(Identity(prior.space), GaussianNoise(sigma), y), prior


def posterior_of(problem, prior):
    s2, c = problem.noise.sigma**2, prior.variance
    return prior.mean + c / (c + s2) * (problem.y[0] - prior.mean), (c * s2 / (c + s2)).sqrt()


def test_dmid_discrete_levels_are_within_a_third_of_a_percent_of_ours():
    """M1: the published table of levels, from DDPM's betas."""
    abar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)
    trained = ((1 - abar) / abar).sqrt()
    levels = torch.tensor([5, 10, 15, 25, 50, 75, 100, 150, 200, 250]).double() * 2 / 255
    nearest = (trained - levels[:, None]).abs().argmin(1)
    assert (nearest + 1).tolist() == [9, 21, 33, 57, 115, 168, 215, 291, 348, 393]
    assert float((trained[nearest] / levels - 1).abs()[2:].max()) < 0.0033 + 5e-5

    class Asked(GaussianPrior):
        def denoise(self, x, sigma):
            asked.append(float(sigma[0]))
            return super().denoise(x, sigma)

    problem, prior = denoising()
    for solver in (DMID(steps=4), DMID(steps=4, sampler="ddim"), DMID(steps=1)):
        asked: list[float] = []
        solve(problem, Asked(prior.mean, prior.variance), solver, width=1)
        assert asked[0] == problem.noise.sigma
        assert asked == sorted(asked, reverse=True)
        assert len(asked) == solver.nfe


def test_dmid_of_one_step_is_the_posterior_mean():
    """M2, of a correlated prior too; the same for every seed."""
    problem, prior = denoising()
    samples = solve(problem, prior, DMID(steps=1), seeds=(0, 1)).samples
    torch.testing.assert_close(samples[0, 0], posterior_of(problem, prior)[0], atol=1e-12, rtol=0)
    assert torch.equal(samples[0], samples[1])
    k = known()[0]
    found = end(DMID(steps=1), k.problem, k.prior)
    torch.testing.assert_close(found, k.mean, atol=1e-10, rtol=0)


def dmid_law(solver):
    problem, prior = denoising()
    mean, std = affine_law(solver, problem, prior, 0.0, problem.y[0])
    true_mean, true_std = posterior_of(problem, prior)
    shrunk = ((mean - prior.mean) / (true_mean - prior.mean)).flatten()[0]
    return float(shrunk), float((std / true_std).square().flatten()[0])


@pytest.mark.parametrize(("steps", "variance"), [(2, 0.23), (3, 0.37), (10, 0.71), (30, 0.89), (115, 0.96)])
def test_dmid_as_published_has_the_posterior_mean_and_its_own_variance(steps, variance):
    """M3, exact: zeta = 1."""
    mean, got = dmid_law(DMID(steps=steps, sampler="ddim"))
    assert mean == pytest.approx(1, abs=1e-12)
    assert got == pytest.approx(variance, abs=0.011)


@pytest.mark.parametrize(("steps", "mean"), [(2, 1.065), (10, 1.090), (115, 1.092)])
def test_dmid_below_zeta_1_is_drawn_to_the_measurement(steps, mean):
    assert dmid_law(DMID(steps=steps, sampler="ddim", zeta=0.64))[0] == pytest.approx(mean, abs=0.007)


@pytest.mark.parametrize("steps", [6, 10, 20])
def test_dmid_of_second_order_has_mean_and_variance(steps):
    mean, variance = dmid_law(DMID(steps=steps))
    assert mean == pytest.approx(1, abs=1e-3)
    assert variance == pytest.approx(1, abs=0.03)


def test_dmid_ensemble_monte_carlo():
    problem, prior = denoising()
    x = solve(problem, prior, DMID(steps=10), seeds=range(4000), width=4000).samples[:, 0, 0]
    mean, std = affine_law(DMID(steps=10), problem, prior, 0.0, problem.y[0])
    assert ((x.mean(0) - mean[0]) / (std[0] / math.sqrt(len(x)))).abs().max() < 4
    assert ((x.std(0) - std[0]) / (std[0] / math.sqrt(2 * len(x)))).abs().max() < 4
    truth, spread = posterior_of(problem, prior)
    assert ((x.mean(0) - truth[0]) / (spread / math.sqrt(len(x)))).abs().max() < 4


def test_dmid_without_noise_gives_the_measurement():
    problem, prior = denoising(sigma=0.0)
    assert torch.equal(solve(problem, prior, DMID()).samples[0], problem.y)


def test_dmid_refuses_what_it_cannot_do():
    problem, prior = denoising(sigma=200.0)
    with pytest.raises(CapabilityError, match=r"the noise, 200 .* is above the prior's highest level, 100; .*diffpir"):
        solve(problem, prior, DMID())
    with pytest.raises(CapabilityError, match="DMID needs a Identity as its operator; Separable is not one"):
        solve(problem_g(), prior_g(), DMID())


SPACE = Space((1, 32, 27), torch.float64)


def blocks(channels=1):
    x = torch.zeros(1, channels, 32, 27, dtype=torch.float64)
    x[..., 8:20, 6:17] = 1.0
    x[..., 14:17, 9:24] += 0.5
    return x


def noisy(A, x, sigma=0.02):
    noise = GaussianNoise(sigma)
    return InverseProblem(A, noise, noise.sample(A(x), Rng([(0, 0)])))


def l1(x):
    """||W x||_1 without the approximation band, complex coefficients by magnitude."""
    _, *details = coefficients(x.numpy())
    return float(sum(torch.from_numpy(c).norm(dim=1).sum() for level in details for c in level.values()))


def objective(problem, x, weight):
    """Mean over all the shifts that the method may draw, of which every third stands for its neighbours."""
    shifts = [(i, j) for i in range(0, 32, 3) for j in range(0, 27, 3)]
    sparse = sum(l1(x.roll(s, (2, 3))) for s in shifts) / len(shifts)
    return float(problem.residual_norm2(x)) / 2 + weight * sparse


@pytest.mark.parametrize("pair", [False, True])
def test_wavelets_lower_their_objective(pair):
    """Below the truth's and below that of least squares; moves along either channel raise it."""
    space = Space((2, *SPACE.shape[1:]), SPACE.dtype) if pair else SPACE
    lines = torch.rand(32, generator=torch.Generator().manual_seed(3)) < 0.6
    lines = (lines | (torch.arange(32) < 3) | (torch.arange(32) > 29))[:, None]
    A = (UndersampledComplexFourier if pair else UndersampledFourier)(space, lines)
    x, weight = blocks(1 + pair), 0.02
    problem = noisy(A, x)
    found = solve(problem, None, Wavelet(weight=weight), width=1).samples[0]
    least = solve(problem, None, CG(iterations=50), width=1).samples[0]
    assert objective(problem, found, weight) < min(objective(problem, x, weight), objective(problem, least, weight))
    assert (found - x).norm() < (least - x).norm() * 0.8
    for other in (0.97 * found, 1.03 * found, found + 0.01 * torch.randn_like(found)):
        assert objective(problem, found, weight) < objective(problem, other, weight)


def test_wavelet_shrinkage_is_the_proximal_map_inside():
    """argmin 1/2 ||u - x||^2 + w ||W u||_1 for a single coefficient far from the border: it is less by w."""
    x = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    approximation, *details = coefficients(x.numpy())
    details[-1]["dd"][0, 0, 18, 17] = 1.0
    import pywt

    atom = torch.from_numpy(pywt.waverecn([approximation, *details], "db4", "symmetric", axes=(2, 3)))
    assert float(atom.norm()) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(shrink(3 * atom, 0.5), 2.5 * atom, atol=1e-9, rtol=0)
    torch.testing.assert_close(shrink(0.4 * atom, 0.5), 0 * atom, atol=1e-9, rtol=0)


def test_wavelets_leave_constants_and_weight_0_alone():
    flat = torch.full((2, 1, 20, 18), 0.7)
    torch.testing.assert_close(shrink(flat, 0.3), flat)
    x = torch.rand(2, 1, 20, 18)
    assert torch.equal(shrink(x, 0.0), x)


def test_wavelets_shrink_complex_coefficients_by_their_magnitude():
    """Turning the phase of the image turns the result."""
    x = torch.randn((1, 2, 32, 27), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = torch.stack([0.6 * x[:, 0] - 0.8 * x[:, 1], 0.8 * x[:, 0] + 0.6 * x[:, 1]], 1)
    a, b = shrink(x, 0.4), shrink(turned, 0.4)
    want = torch.stack([0.6 * a[:, 0] - 0.8 * a[:, 1], 0.8 * a[:, 0] + 0.6 * a[:, 1]], 1)
    torch.testing.assert_close(b, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(1, 16, 15, 9), (1, 40), (2, 5, 6)])
def test_wavelets_do_volumes_lines_and_short_axes(shape):
    space = Space(shape, torch.float64)
    A = Mask(space, torch.rand(shape[1:], generator=torch.Generator().manual_seed(1)) < 0.8)
    x = solve(noisy(A, torch.ones(1, *shape).double()), None, Wavelet(iterations=60), width=1).samples[0]
    kept = A.adjoint(A(x)) != 0
    assert float((x - 1)[kept].abs().max()) < 0.15
