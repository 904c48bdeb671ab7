"""Training gives back what is known: the denoiser of a Gaussian; and complex networks commute with a phase."""

import math

import pytest
import torch

from invdiff.networks import Demodulated
from invdiff.networks.demodulated import rotate
from invdiff.priors import NetworkPrior
from invdiff.rng import generator
from invdiff.space import Space
from invdiff.testing.priors import smooth_gaussian
from invdiff.training.denoiser import DenoiserTraining, denoising, network
from invdiff.training.loop import begin, train
from invdiff.training.validation import LEVELS, Validation


class Known:
    channels = 1

    def __init__(self, prior):
        self.prior = prior

    def draw(self, count, size, g):
        assert size == self.prior.space.shape[1]
        return self.prior.sample(torch.randn((count, *self.prior.space.shape), generator=g))


def small_complex_network():
    net = Demodulated(channels=(8, 16), blocks=1)
    g = generator("weights")
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=g)
    return net


def test_a_complex_network_commutes_with_a_constant_phase():
    net, g = small_complex_network(), generator("x")
    x, label = torch.randn((3, 2, 24, 16), generator=g), torch.tensor([-0.5, 0.0, 0.3])
    c, s = (torch.full((3, 24, 16), f(1.1)) for f in (math.cos, math.sin))
    with torch.no_grad():
        torch.testing.assert_close(net(rotate(x, c, s), label), rotate(net(x, label), c, s), atol=1e-4, rtol=1e-4)


def test_a_smooth_phase_is_taken_out():
    """A bright image with a smooth phase becomes nearly real, even under noise of a third of it."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    angle = (0.7 + 1.5 * x - y**2)[None]
    image = rotate(torch.stack([torch.ones(64, 64), torch.zeros(64, 64)])[None], angle.cos(), angle.sin())
    noisy = image + 0.3 * torch.randn(image.shape, generator=generator("n"))
    c, s = Demodulated(channels=(8,), blocks=1).direction(noisy).unbind(1)
    real, imaginary = rotate(image, c, -s)[0, :, 8:-8, 8:-8]  # beyond the border there is nothing to average
    assert float(imaginary.square().mean() / real.square().mean()) < 0.02
    assert float(real.mean()) > 0.97


def test_validation_leaves_the_network_as_it_was():
    settings = DenoiserTraining(width=8, crop=16, steps=1)
    net = network(1, settings).train()
    validation = Validation.of(Known(smooth_gaussian(16)), 16, 0)
    losses = validation.losses(net, 0.3)
    assert set(losses) == set(LEVELS)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    # A fresh network answers 0: what is left is EDM's c_skip, a shrinking towards zero.
    gain = 0.09 / (0.09 + 0.5**2)
    want = ((gain * 0.5 * validation.noise - (1 - gain) * validation.x0).square().mean().sqrt()) / 0.5
    assert losses[0.5] == pytest.approx(float(want), rel=1e-4)


def test_the_average_carries_no_graph():
    settings = DenoiserTraining(width=8, crop=16, steps=2, batch=2, grow_at=1.0)
    source = Known(smooth_gaussian(16))
    *_, state = train(source, settings, begin(source, settings, network(1, settings)), denoising(settings), bf16=False)
    assert all(p.is_leaf and not p.requires_grad for p in state.ema.parameters())


@pytest.mark.slow
def test_a_gaussian_gives_back_its_denoiser():
    """Within 2 % of the data's standard deviation over the ladder."""
    prior = smooth_gaussian(16, cutoff=400.0)
    settings = DenoiserTraining(
        width=32, batch=48, crop=16, grow_at=1.0, steps=2500, learning_rate=3e-3, decay_from=0.3, ema=0.995,
        log_sigma_mean=-1.2,
    )  # fmt: skip
    source = Known(prior)
    *_, state = train(source, settings, begin(source, settings, network(1, settings)), denoising(settings), bf16=False)
    net = NetworkPrior(state.ema, Space((1, 16, 16)), mean=state.mean, std=state.std)
    x = prior.sample(torch.randn((256, 1, 16, 16), generator=generator("x")))
    for level in (0.002, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
        sigma = torch.full((256,), level)
        z = x + level * torch.randn(x.shape, generator=generator("noise", level))
        error = (net.denoise(z, sigma) - prior.denoise(z, sigma)).square().mean().sqrt() / x.std()
        assert float(error) < 0.02, f"sigma {level}: {float(error):.4f} of the standard deviation"
