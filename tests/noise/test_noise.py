import inspect
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import invdiff.noise as public
from invdiff.errors import ConfigError
from invdiff.noise import GaussianNoise, NoiseModel, NonCentralChiNoise, PoissonNoise, RicianNoise
from invdiff.rng import Rng
from invdiff.testing.noise import check_noise_model

REAL = torch.tensor([1.0, 0.4, 2.5]).double()
# Clean values and, for each, the law of one measurement by scipy.
CASES = {
    "gaussian": (GaussianNoise(0.3), torch.tensor([1.0, -2.0, 0.3]).double(), lambda a: stats.norm(a, 0.3)),
    "complex": (GaussianNoise(0.3), torch.tensor([1 + 2j, -0.5j]).to(torch.complex128), None),
    "rician": (RicianNoise(0.5), REAL, lambda a: stats.rice(a / 0.5, scale=0.5)),
    "one coil": (NonCentralChiNoise(0.5, coils=1), REAL, lambda a: stats.rice(a / 0.5, scale=0.5)),
    "chi": (NonCentralChiNoise(0.5, coils=4), REAL, None),
    "many coils": (NonCentralChiNoise(0.2, coils=32), REAL, None),
    "poisson": (PoissonNoise(0.1), REAL, lambda a: stats.poisson(a / 0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_sample_and_log_prob_agree(case):
    noise, clean, _ = CASES[case]
    check_noise_model(noise, clean, 5000)


def test_every_public_model_has_a_row():
    models = {c for c in vars(public).values() if inspect.isclass(c) and issubclass(c, NoiseModel)} - {NoiseModel}
    assert models == {type(noise) for noise, _, _ in CASES.values()}


def draws(noise, value, n=5000):
    clean = torch.full((n, 1), value, dtype=torch.float64)
    return noise.sample(clean, Rng([(seed, 0) for seed in range(n)]))[:, 0].numpy()


@pytest.mark.parametrize("value", [0.05, 1.0, 2.5])
@pytest.mark.parametrize("case", ["gaussian", "rician", "one coil"])
def test_draws_are_scipys(case, value):
    noise, _, law = CASES[case]
    assert stats.kstest(draws(noise, value), law(value).cdf).pvalue > 1e-3


@pytest.mark.parametrize("value", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("coils", [1, 4, 32])
def test_squares_of_many_coils_are_non_central_chi2(coils, value):
    y = draws(NonCentralChiNoise(0.5, coils=coils), value)
    assert stats.kstest((y / 0.5) ** 2, stats.ncx2(2 * coils, (value / 0.5) ** 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("value", [0.3, 20.0])
def test_counts_are_scipys(value):
    counts = np.rint(draws(PoissonNoise(0.1), value) / 0.1).astype(int)
    assert np.allclose(counts * 0.1, draws(PoissonNoise(0.1), value))
    z = (counts.mean() - value / 0.1) / math.sqrt(value / 0.1 / len(counts))
    assert abs(z) < 4
    assert counts.var() == pytest.approx(value / 0.1, rel=0.1)


@pytest.mark.parametrize("value", [1e-9, 0.05, 1.0, 30.0])
@pytest.mark.parametrize(
    "noise", [RicianNoise(0.5), NonCentralChiNoise(0.5, coils=1), NonCentralChiNoise(0.5, coils=12)]
)
def test_densities_integrate_to_one(noise, value):
    def p(y):
        return math.exp(noise.log_prob(torch.tensor([[y]]).double(), torch.tensor([[value]]).double()))

    middle = math.sqrt(value**2 + 2 * getattr(noise, "coils", 1) * 0.25)
    y = np.linspace(max(1e-12, middle - 6), middle + 6, 4001)
    assert integrate.simpson([p(v) for v in y], x=y) == pytest.approx(1, abs=1e-6)


def test_densities_are_scipys():
    y, a = torch.linspace(0.1, 4, 9).double()[None], torch.linspace(0, 3, 9).double()[None]
    want = stats.rice(a.numpy() / 0.5, scale=0.5).logpdf(y.numpy()).sum()
    assert float(RicianNoise(0.5).log_prob(y, a)) == pytest.approx(want, rel=1e-12)
    assert float(NonCentralChiNoise(0.5, coils=1).log_prob(y, a)) == pytest.approx(want, rel=1e-10)
    z = (y / 0.5) ** 2
    chi = stats.ncx2(8, ((a / 0.5) ** 2).numpy()).logpdf(z.numpy()) + np.log(2 * y.numpy() / 0.25)
    assert float(NonCentralChiNoise(0.5).log_prob(y, a)) == pytest.approx(chi.sum(), rel=1e-9)
    counts = stats.poisson(a.numpy()[:, 1:] / 0.1).logpmf(np.arange(8)[None]).sum()
    got = PoissonNoise(0.1).log_prob(0.1 * torch.arange(8).double()[None], a[:, 1:])
    assert float(got) == pytest.approx(counts, rel=1e-12)


@pytest.mark.parametrize("coils", [1, 4, 32])
def test_the_gradient_of_the_bessel_function(coils):
    y = torch.tensor([[0.3, 1.0, 5.0]]).double()
    a = torch.tensor([[1e-4, 0.8, 4.0]]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: NonCentralChiNoise(0.5, coils=coils).log_prob(y, a), (a,), atol=1e-6)


def test_levels_and_units():
    for noise in (RicianNoise, NonCentralChiNoise, GaussianNoise):
        assert noise.at(200.0, 0.01).sigma == pytest.approx(2)
        assert noise.at(200.0, 0.01).in_units(4).sigma == pytest.approx(0.5)
    assert draws(PoissonNoise.at(200.0, 0.02), 200.0).std() == pytest.approx(4, rel=0.05)
    assert PoissonNoise(0.5).in_units(5).gain == pytest.approx(0.1)


def test_what_cannot_be():
    y = torch.tensor([[-1.0, 0.5]]).double()
    assert float(RicianNoise(0.5).log_prob(y, y.abs())) == -math.inf
    assert float(NonCentralChiNoise(0.5).log_prob(y, y.abs())) == -math.inf
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="of magnitudes must be a finite number > 0"):
            RicianNoise(bad)
        with pytest.raises(ConfigError, match="the gain of counts must be a finite number > 0"):
            PoissonNoise(bad)
    with pytest.raises(ConfigError, match="at least one coil, got 0"):
        NonCentralChiNoise(0.5, coils=0)
    with pytest.raises(ConfigError, match="needs clean values >= 0, the least is -1; shift the image"):
        PoissonNoise(0.1).sample(y, Rng([(0, 0)]))


def test_law_catches_a_wrong_likelihood():
    class Shifted(GaussianNoise):
        def log_prob(self, y, clean):
            return super().log_prob(y, clean + 0.05)

    with pytest.raises(AssertionError, match="errors off 0"):
        check_noise_model(Shifted(0.3), torch.zeros(2).double(), 5000)


def test_sigma_is_per_real_component():
    clean = torch.zeros(1, 100_000, dtype=torch.complex128)
    y = GaussianNoise(0.5).sample(clean, Rng([(3, 0)]))
    assert float(y.real.std()) == pytest.approx(0.5, rel=0.01)
    assert float(y.imag.std()) == pytest.approx(0.5, rel=0.01)


def test_log_prob_is_the_normal_density():
    y, clean = torch.randn(2, 5).double(), torch.zeros(2, 5).double()
    want = torch.distributions.Normal(0.0, 0.7).log_prob(y).sum(1)
    torch.testing.assert_close(GaussianNoise(0.7).log_prob(y, clean), want)
    z = torch.complex(y, y)
    torch.testing.assert_close(GaussianNoise(0.7).log_prob(z, torch.zeros_like(z)), 2 * want)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_messages(sigma):
    with pytest.raises(ConfigError, match="finite number >= 0"):
        GaussianNoise(sigma)
    with pytest.raises(ConfigError, match="not a density"):
        GaussianNoise(0.0).log_prob(torch.zeros(1, 1), torch.zeros(1, 1))
