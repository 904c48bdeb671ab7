import math

import pytest
import torch

from invdiff.errors import ConfigError
from invdiff.noise import GaussianNoise
from invdiff.rng import Rng
from invdiff.testing.noise import check_noise_model


@pytest.mark.parametrize("clean", [torch.tensor([1.0, -2.0, 0.3]).double(), torch.tensor([1 + 2j, -0.5j])])
def test_sample_and_log_prob_agree(clean):
    check_noise_model(GaussianNoise(0.3), clean.to(torch.complex128 if clean.is_complex() else torch.float64), 5000)


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
