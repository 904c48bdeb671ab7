"""Training of bridges: what degrades a crop is what degrades a scan; a Gaussian gives back its closed-form bridge."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff import simulate
from invdiff.acquisitions import CT, MRI, Blur
from invdiff.bridges import Family, GaussianBridge, NetworkBridge
from invdiff.errors import ConfigError
from invdiff.priors.scaling import Units
from invdiff.rng import generator
from invdiff.space import Space
from invdiff.testing.priors import smooth_gaussian
from invdiff.training.bridge import BridgeTraining, Degradation, bridging, widened
from invdiff.training.denoiser import network
from invdiff.training.loop import begin, train
from invdiff.training.validation import TIMES, BridgeValidation
from invdiff.volumes import Volume

HU = Units((-1000.0, 1000.0))


@pytest.mark.parametrize(
    ("acquisition", "settings", "units"),
    [
        (MRI(image="real", acceleration=3.0), {"image": "real", "acceleration": "3"}, Units()),
        (CT(views=20), {"views": "20"}, HU),
        (Blur(fwhm=4.0), {"fwhm": "4"}, Units()),
    ],
)
def test_a_crop_is_degraded_as_a_scan_is(acquisition, settings, units):
    """Of one slice, without noise, for its streams differ: the state at which a solver begins."""
    u = smooth_gaussian(32).sample(torch.randn((1, 1, 32, 32), generator=generator("x"))).clamp(0, 1)
    kind = type(acquisition).__name__.lower()
    found = Degradation(Family(kind, settings, "0"), units, (2.0, 2.0))(u, generator("d"))
    g = generator("d")
    seed = int(torch.randint(2**31, (), generator=skipped(Family(kind, settings, "0"), g)))
    low, high = units.window or (0.0, 1.0)
    volume = Volume((low + (high - low) * u[:, 0, ..., None]).float(), np.diag([2.0, 2.0, 2.0, 1.0]))
    problem = simulate(volume, acquisition, noise=0, seed=seed).problem()
    want = units.between(low - acquisition.zero, high - acquisition.zero).encode(problem)
    torch.testing.assert_close(found, want.operator.direct(want.y), atol=2e-5, rtol=1e-4)


def skipped(family, g):
    """The generator after the family's own draw."""
    family.draw(g)
    return g


def test_one_acquisition_for_all_and_noise_of_their_own():
    u = torch.full((2, 1, 16, 16), 0.5)
    x1 = Degradation(Family("denoise", noise="0.1..0.2"), Units(), ())(u, generator("d"))
    a, b = x1 - u
    assert not torch.equal(a, b)
    assert float(a.std()) == pytest.approx(float(b.std()), rel=0.2)
    assert 0.04 < float(a.std()) < 0.11, "of the 99.9th percentile, 0.5"


def test_the_task_is_the_bridges_own_formula():
    settings = BridgeTraining(conditional=True)
    x0 = torch.rand((3, 1, 16, 16), generator=generator("x"))
    degrade = lambda x, g: 0.5 * x  # noqa: E731
    z, label, target = bridging(settings, degrade)(x0, generator("t"), 0.5)
    assert z.shape == (3, 2, 16, 16)
    torch.testing.assert_close(z[:, 1:], x0)  # x1 / std
    x, c = 0.5 * z[:, :1], (4 * label).exp()[:, None, None, None]
    torch.testing.assert_close(x + c * target, x0, atol=1e-5, rtol=0)


def test_a_wider_network_says_the_same():
    net = network(1, BridgeTraining(width=8))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=generator("w", p.shape))
    x, label = torch.randn((2, 1, 16, 16), generator=generator("x")), torch.tensor([0.1, -0.3])
    both = torch.cat([x, torch.randn(x.shape, generator=generator("y"))], 1)
    torch.testing.assert_close(widened(net, 2)(both, label)[:, :1], net(x, label), atol=1e-6, rtol=1e-5)
    assert not widened(net, 2)(both, label)[:, 1:].any()


@pytest.mark.parametrize("process", ["ot-ode", "indi"])
def test_a_deterministic_bridge_that_sees_x1_is_refused(process):
    with pytest.raises(ConfigError, match="a deterministic bridge that is shown x1 learns a subtraction, not images"):
        BridgeTraining(process=process, conditional=True).way()


class Known:
    channels = 1

    def __init__(self, prior):
        self.prior = prior

    def draw(self, count, size, g):
        assert size == self.prior.space.shape[1]
        return self.prior.sample(torch.randn((count, *self.prior.space.shape), generator=g))


def test_validation_of_a_fresh_network_leaves_everything():
    settings = BridgeTraining(width=8, crop=16, steps=1)
    degrade = Degradation(Family("denoise", noise="0.1"), Units(), ())
    judge = BridgeValidation.of(Known(smooth_gaussian(16)), settings, degrade)
    net = network(1, settings).train()
    assert judge.losses(net, 0.3) == pytest.approx(dict.fromkeys(TIMES, 1.0))
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.slow
def test_a_gaussian_gives_back_its_bridge():
    """Denoising of a Gaussian: all four times within 3 % of the closed form, as a fraction of the image's spread."""
    prior, level = smooth_gaussian(16, cutoff=400.0), 0.3
    settings = BridgeTraining(
        width=32, batch=48, crop=16, steps=2500, learning_rate=3e-3, decay_from=0.3, ema=0.995, spread=1.0
    )

    def degrade(x, g):
        return x + level * torch.randn(x.shape, generator=g)

    source = Known(prior)
    *_, state = train(
        source, settings, begin(source, settings, network(1, settings)), bridging(settings, degrade), bf16=False
    )
    space = Space((1, 16, 16))
    found = NetworkBridge(state.ema, space, settings.way(), conditional=False, std=state.std)
    eye = torch.eye(256, dtype=torch.float64)
    C = prior.synthesis(prior.variance * prior.analysis(eye.reshape(-1, 1, 16, 16).to(prior.mean))).flatten(1).double()
    mean = prior.mean.flatten().double()
    exact = GaussianBridge(
        replace(space, dtype=torch.float64), settings.way(), conditional=False,
        mean0=mean, mean1=mean, C00=C, C01=C, C11=C + level**2 * eye,
    )  # fmt: skip
    g = generator("pairs")
    x0 = source.draw(256, 16, g)
    x1 = degrade(x0, g)
    for time in TIMES:
        t = round(time * 999)
        a, s = float(settings.way().a[t]), float(settings.way().s[t])
        x = (1 - a) * x0 + a * x1 + s * torch.randn(x0.shape, generator=g)
        error = found.clean(x, x1, t) - exact.clean(x.double(), x1.double(), t)
        assert float(error.square().mean().sqrt() / x0.std()) < 0.03, f"at {time}"
