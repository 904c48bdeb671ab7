"""Closed forms against autograd and Monte Carlo; networks against their own formula; files against their errors."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from invdiff.acquisitions import MRI
from invdiff.errors import CapabilityError, PriorError
from invdiff.networks.unet import UNet
from invdiff.noise import GaussianNoise, RicianNoise
from invdiff.operators import Identity, gaussian_blur
from invdiff.priors import GaussianPrior, MixturePrior, NetworkPrior, Units, checkpoints
from invdiff.priors.mixture import fit_mixture
from invdiff.problem import InverseProblem
from invdiff.space import Space
from invdiff.testing.priors import check_prior
from invdiff.volumes import load, to_slices

G = torch.Generator().manual_seed(0)
SMALL = Space((1, 16, 12))
SPACE = {"brain-mr": Space((1, 48, 40)), "brain-mr-complex": Space((2, 48, 40))}


def mixture(K=3, n=6, r=2):
    g = torch.Generator().manual_seed(5)
    bases = torch.linalg.qr(torch.randn(K, n, r, generator=g).double())[0]
    means = 2 * torch.randn(K, n, generator=g).double()
    variances = torch.rand(K, r, generator=g).double() + 0.2
    weights = torch.tensor([0.2, 0.5, 0.3]).double()
    return MixturePrior(Space((1, 2, 3), torch.float64), weights, means, bases, variances, 0.05)


def dct(n):
    k = torch.arange(n).double()
    M = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / (2 * n)) * (2 / n) ** 0.5
    M[0] /= 2**0.5
    return M


def gaussian_dct():
    M = dct(6)
    return GaussianPrior(
        torch.randn(1, 6, generator=torch.Generator().manual_seed(1)).double(),
        torch.linspace(0.1, 2, 6).double(),
        analysis=lambda x: x @ M.T,
        synthesis=lambda x: x @ M,
    )


@pytest.mark.parametrize("prior", [mixture(), gaussian_dct()], ids=["mixture", "gaussian"])
def test_tweedie_score_is_the_gradient_of_the_closed_form(prior):
    x = torch.randn(4, *prior.space.shape, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    sigma = torch.tensor([0.05, 0.3, 1.0, 5.0]).double()
    (want,) = torch.autograd.grad(prior.log_prob(x, sigma).sum(), x)
    torch.testing.assert_close(prior.score(x, sigma), want)


@pytest.mark.parametrize("prior", [mixture(), gaussian_dct()], ids=["mixture", "gaussian"])
def test_denoiser_is_the_identity_without_noise(prior):
    x = torch.randn(4, *prior.space.shape, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(prior.denoise(x, torch.full((4,), 1e-6).double()), x, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("make", [mixture, gaussian_dct, lambda: NetworkPrior(network(), SMALL, mean=0.2, std=0.5)])
def test_laws(make):
    prior = make()
    x = torch.randn(4, *prior.space.shape, generator=torch.Generator().manual_seed(2)).to(prior.space.dtype)
    check_prior(prior, x, 1e-2 if isinstance(prior, NetworkPrior) else 1e-9)


def test_mixture_is_the_dense_mixture():
    """The low-rank forms against full covariances."""
    prior = mixture()
    x = torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(2)).double()
    C = prior.covariances() + 0.7**2 * torch.eye(6)
    dense = torch.distributions.MultivariateNormal(prior.means, C).log_prob(x.flatten(1)[:, None]) + prior.log_weights
    torch.testing.assert_close(prior.log_prob(x, torch.full((5,), 0.7).double()), torch.logsumexp(dense, 1))


def test_mixture_posterior_is_bayes():
    """Prior times likelihood at random points differs from the posterior by one constant, the evidence."""
    prior = mixture()
    A = torch.randn(3, 6, generator=torch.Generator().manual_seed(3)).double()
    y, s = torch.tensor([0.5, -1.0, 2.0]).double(), 0.4
    w, m, C = prior.posterior(A, y, s)
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(4)).double()
    post = torch.logsumexp(torch.distributions.MultivariateNormal(m, C).log_prob(x[:, None]) + w.log(), 1)
    joint = prior.log_prob(x.reshape(-1, 1, 2, 3), torch.zeros(20).double()) - ((y - x @ A.T) ** 2).sum(1) / (2 * s**2)
    gap = joint - post
    torch.testing.assert_close(gap, gap[:1].expand(20), atol=1e-8, rtol=1e-8)


def test_mixture_moments():
    prior = mixture()
    g = torch.Generator().manual_seed(0)
    k = torch.multinomial(prior.log_weights.exp(), 200_000, replacement=True, generator=g)
    L = torch.linalg.cholesky(prior.covariances())
    x = prior.means[k] + (L[k] @ torch.randn(len(k), 6, 1, generator=g).double())[..., 0]
    z = (x.mean(0) - prior.mean.flatten()) / (x.std(0) / len(x) ** 0.5)
    assert z.abs().max() < 4
    torch.testing.assert_close(x.std(0), prior.std.flatten(), rtol=0.02, atol=0)


def test_mixture_is_fitted_without_a_network():
    truth = mixture()
    g = torch.Generator().manual_seed(1)
    k = torch.multinomial(truth.log_weights.exp(), 6000, replacement=True, generator=g)
    L = torch.linalg.cholesky(truth.covariances())
    x = (truth.means[k] + (L[k] @ torch.randn(6000, 6, 1, generator=g).double())[..., 0]).reshape(-1, 1, 2, 3)
    fitted = fit_mixture(x[:4000], components=3, rank=2, seed=1)
    zero = torch.zeros(2000).double()
    gap = truth.log_prob(x[4000:], zero).mean() - fitted.log_prob(x[4000:], zero).mean()
    assert float(gap) < 0.05  # nats per patch, on data that the fit has not seen


def test_mixture_messages():
    p = mixture()
    parts = [p.space, p.log_weights.exp(), p.means, p.bases, p.variances]
    with pytest.raises(PriorError, match="floor and all weights"):
        MixturePrior(*parts, 0.0)
    with pytest.raises(PriorError, match="do not fit"):
        MixturePrior(Space((1, 5)), *parts[1:], 0.1)


def network(channels=1):
    torch.manual_seed(0)
    net = UNet(in_channels=channels, channels=(64, 64), blocks=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return net


def test_network_prior_is_edms_formula():
    net, space = network(), Space((1, 16, 12))
    prior = NetworkPrior(net, space, mean=0.2, std=0.5)
    x, sigma = torch.randn(8, 1, 16, 12, generator=G), torch.linspace(0.01, 3, 8)
    s = sigma[:, None, None, None]
    total = (s**2 + 0.25).sqrt()
    want = 0.25 / total**2 * x + s * 0.5 / total * net(x / total, sigma.log() / 4)
    torch.testing.assert_close(prior.denoise(x, sigma), want, atol=1e-5, rtol=1e-5)


def test_network_prior_pads_any_size_and_batch():
    for shape in ((17, 13), (16, 16), (5, 31)):
        prior = NetworkPrior(network(), Space((1, *shape)), mean=0.2, std=0.5)
        x = torch.randn(11, 1, *shape, generator=G)
        out = prior.denoise(x, torch.full((11,), 0.1))
        assert out.shape == x.shape
        torch.testing.assert_close(out[3:4], prior.denoise(x[3:4], torch.tensor([0.1])), atol=1e-6, rtol=1e-5)


def test_network_is_local():
    """No statistics over space: far away, air or another head changes nothing."""
    net = network()
    x = torch.randn(1, 1, 64, 256, generator=G)
    other = x.clone()
    other[..., 200:] += 5
    label = torch.zeros(1)
    near, moved = net(x, label)[..., :100], net(other, label)[..., :100]
    torch.testing.assert_close(near, moved)


def test_network_prior_refuses_other_channels():
    with pytest.raises(PriorError, match="trained on 2-channel slices"):
        NetworkPrior(network(2), Space((1, 16, 16)), mean=0, std=1)
    with pytest.raises(PriorError, match="trained on 1-channel slices"):
        NetworkPrior(network(), Space((2, 16, 16)), mean=0, std=1)
    with pytest.raises(PriorError, match="not volumes, 1x4x16x16 float32; join them by SlicewisePrior"):
        NetworkPrior(network(), Space((1, 4, 16, 16)), mean=0, std=1)


@pytest.mark.parametrize("name", ["brain-mr", "brain-mr-complex"])
def test_shipped_prior_beats_its_input_at_every_level(name, small_volume):
    """On real slices that it never saw: the error is below the noise down to sigma = 0.002, and falls with it."""
    x = to_slices(load(small_volume).data)
    x = x / torch.quantile(x, 0.999)
    prior, card, _ = checkpoints.network_prior(checkpoints.find(name), SPACE[name], dtype=torch.float32)
    if card.channels == 2:
        x = MRI().to_unknown(x, 0)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for sigma in (0.002, 0.01, 0.05, 0.2, 1.0):
        denoised = prior.denoise(x + sigma * noise, torch.full((len(x),), sigma))
        errors.append(float((denoised - x).square().mean().sqrt()))
        # The scan carries noise of its own: at sigma = 0.002 there is nothing left to gain.
        assert errors[-1] < (sigma if sigma > 0.005 else 1.02 * sigma)
    assert errors == sorted(errors)


@pytest.mark.parametrize("name", checkpoints.shipped())
def test_shipped_priors(name):
    """Their card is true, their files are small, their error falls with sigma and vanishes with it on smooth images."""
    path = checkpoints.find(name)
    card = checkpoints.verify(path)
    assert (card.name, card.licence) == (name, "Apache-2.0")
    assert path.stat().st_size < 25e6
    prior, _, _ = checkpoints.network_prior(path, Space((card.channels, 48, 40)), dtype=torch.float32)
    y, x = torch.meshgrid(torch.linspace(0, 3, 48), torch.linspace(0, 2, 40), indexing="ij")
    image = (0.3 + 0.2 * torch.sin(y) * torch.cos(x)).expand(2, card.channels, 48, 40)
    noise, errors = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)), []
    for sigma in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        out = prior.denoise(image + sigma * noise, torch.full((2,), sigma))
        errors.append(float((out - image).square().mean().sqrt()))
    assert errors == sorted(errors)
    assert errors[0] < 0.002
    nothing = prior.denoise(image, torch.full((2,), 1e-5))
    torch.testing.assert_close(nothing, image, atol=1e-4, rtol=0)


def test_shipped_priors_together_are_small():
    assert sum(checkpoints.find(name).stat().st_size for name in checkpoints.shipped()) < 90e6


def test_scaling_is_invertible_and_unit_free():
    space = Space((1, 8, 8))
    x = torch.rand(3, 1, 8, 8, generator=G) * 700
    problem = InverseProblem(Identity(space), GaussianNoise(7.0), x)
    scaling = Units().of(problem)
    assert scaling.unit == pytest.approx(float(x.max()), rel=0.02)
    assert scaling.offset == 0
    encoded = scaling.encode(problem)
    assert encoded.noise.sigma == pytest.approx(7.0 / scaling.unit)
    torch.testing.assert_close(scaling.decode(encoded.y), x)
    with pytest.raises(PriorError, match="zero everywhere"):
        Units().of(InverseProblem(Identity(space), GaussianNoise(1.0), torch.zeros(1, 1, 8, 8)))


def test_the_scale_of_a_complex_image_is_its_magnitude():
    pair = torch.stack([torch.full((8, 8), 3.0), torch.full((8, 8), -4.0)])[None]
    problem = InverseProblem(Identity(Space((2, 8, 8))), GaussianNoise(1.0), pair)
    assert Units().of(problem).unit == pytest.approx(5.0)


@pytest.mark.parametrize("span", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_window_is_the_same_for_every_scan(span):
    """Hounsfield units through an operator that is not the identity: -1000 and 1000 become the ends of the range."""
    space = Space((1, 8, 6))
    A = gaussian_blur(space, (1.0, 0.7))
    hu = 2000 * torch.rand(3, 1, 8, 6, generator=G) - 1000
    problem = InverseProblem(A, GaussianNoise(7.0), A(hu + 1000))  # the unknown is what is stored less air
    scaling = Units((-1000.0, 1000.0), span).of(problem, air=-1000.0)
    encoded = scaling.encode(problem)
    u = span[0] + (span[1] - span[0]) * (hu + 1000) / 2000
    torch.testing.assert_close(scaling.decode(u), hu + 1000, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(encoded.y, A(u), rtol=1e-4, atol=1e-4)
    assert encoded.noise.sigma == pytest.approx(7.0 * (span[1] - span[0]) / 2000)


CARD = checkpoints.Card(
    name="t", config={"in_channels": 1, "channels": (64, 64), "blocks": 1, "patch": 2}, mean=0, std=1
)


def test_checkpoint_round_trip(tmp_path):
    net = network().to(torch.bfloat16).float()
    checkpoints.save(tmp_path / "p.safetensors", net, CARD)
    back, card = checkpoints.load(tmp_path / "p.safetensors")
    assert card == dataclasses.replace(CARD, config=card.config, units=card.units, reference=card.reference)
    assert checkpoints.units(card) == Units()
    assert len(card.reference) == 8
    assert checkpoints.verify(tmp_path / "p.safetensors") == card
    for a, b in zip(net.parameters(), back.parameters(), strict=True):
        assert torch.equal(a, b)


def test_damaged_weights_do_not_answer_as_their_card_says(tmp_path):
    """Numbers that changed but still load: the reference forward finds them."""
    path = tmp_path / "p.safetensors"
    checkpoints.save(path, network(), CARD)
    tensors = load_file(path)
    tensors["down.0.0.conv1.weight"][0] *= 3
    with safe_open(path, framework="pt") as f:
        save_file(tensors, path, f.metadata())
    checkpoints.load(path)
    with pytest.raises(PriorError, match="does not answer as its card says; the weights are damaged"):
        checkpoints.verify(path)


def test_checkpoint_messages(tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.raises(PriorError, match="no prior at"):
        checkpoints.load(path)
    with pytest.raises(PriorError, match=r"no prior 'brain-mx'; those that ship: .*brain-mr"):
        checkpoints.find("brain-mx")
    checkpoints.save(path, network(), CARD)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(PriorError, match="truncated"):
        checkpoints.load(path)
    path.write_text("not weights")
    with pytest.raises(PriorError, match="not a readable safetensors file"):
        checkpoints.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(PriorError, match="has no card"):
        checkpoints.load(path)
    old = json.dumps(dataclasses.asdict(CARD) | {"version": 99})
    save_file({"a": torch.zeros(1)}, path, {"card": old})
    with pytest.raises(PriorError, match="card of version 99"):
        checkpoints.load(path)
    save_file({"a": torch.zeros(1)}, path, {"card": json.dumps(dataclasses.asdict(CARD))})
    with pytest.raises(PriorError, match="do not fit their card"):
        checkpoints.load(path)


def test_an_offset_and_a_law_of_magnitudes_do_not_go_together():
    problem = InverseProblem(Identity(Space((1, 4, 4))), RicianNoise(1.0), torch.ones(1, 1, 4, 4))
    scaling = Units((-100.0, 100.0)).of(problem)
    with pytest.raises(CapabilityError, match=r"RicianNoise is a law of magnitudes.*lies at -100; choose a prior"):
        scaling.encode(problem)
