"""Unconditional samples have the prior's moments; the same seed gives the same sample."""

import numpy as np
import pytest
import torch

from invdiff import sampling
from invdiff.errors import ConfigError
from invdiff.networks.unet import UNet
from invdiff.priors import GaussianPrior, checkpoints


def test_moments_of_a_gaussian_prior():
    """Mean and variance of each pixel, |z| < 4 over 3000 seeds."""
    mean, variance = torch.tensor([[0.3, -0.2, 0.5, 0.0, 0.7]]), torch.tensor([[0.01, 0.05, 0.2, 1.0, 0.09]])
    prior = GaussianPrior(mean, variance, sigma_min=0.002, sigma_max=10.0)
    x = sampling.unconditional(prior, seeds=range(3000))[:, 0]
    n = len(x)
    assert ((x.mean(0) - mean[0]) / (variance[0] / n).sqrt()).abs().max() < 4
    assert ((x.var(0) / variance[0] - 1) / (2 / n) ** 0.5).abs().max() < 4
    correlation = torch.corrcoef(x.T) - torch.eye(5)
    assert (correlation * n**0.5).abs().max() < 4


def write(path, channels=1, window=None, spacing=(0.5, 2.0)):
    torch.manual_seed(0)
    net = UNet(channels, channels=(64,), blocks=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    units = {"window": window, "range": [0.0, 1.0]}
    card = checkpoints.Card(name="p", config=net.config, mean=0.3, std=0.3, units=units, spacing=list(spacing))
    checkpoints.save(path, net, card)
    return path


def test_same_seed_same_sample(tmp_path):
    path = write(tmp_path / "p.safetensors")
    many = sampling.sample(path, size=(20, 12), seeds=range(3), steps=4, dtype="float32")
    one = sampling.sample(str(path), size=(20, 12), seeds=[2], steps=4, dtype="float32")
    assert tuple(many.images.shape) == (3, 20, 12)
    assert torch.equal(many.images[2], one.images[0])
    assert not torch.equal(many.images[0], many.images[1])
    assert many.facts["intended_use"] == "research only"
    assert len(many.facts["prior"]["sha256"]) == 64


def test_units(tmp_path):
    """A window prior gives stored units; a complex one magnitudes; a range of (0, 1) else stays as it is."""
    how = {"size": (16, 16), "seeds": [0], "steps": 3, "dtype": "float32"}
    plain = sampling.sample(write(tmp_path / "a.safetensors"), **how).images
    window = sampling.sample(write(tmp_path / "b.safetensors", window=[-1000.0, 1000.0]), **how).images
    torch.testing.assert_close(window, 2000 * plain - 1000, rtol=1e-5, atol=1e-2)
    assert sampling.sample(write(tmp_path / "c.safetensors", channels=2), **how).images.min() >= 0


def test_volume(tmp_path):
    volume = sampling.sample(write(tmp_path / "p.safetensors"), size=(16, 8), seeds=range(3), steps=2).volume()
    assert tuple(volume.data.shape) == (1, 16, 8, 3)
    np.testing.assert_allclose(volume.spacing, 1.0)  # sqrt(0.5 * 2)
    unknown = sampling.sample(write(tmp_path / "q.safetensors", spacing=()), size=(8, 8), seeds=[0], steps=2).volume()
    np.testing.assert_allclose(unknown.spacing, 1.0)


def test_messages(tmp_path):
    with pytest.raises(ConfigError, match="at least 1 x 1 voxels and 1 seed, got 0 x 8 and 1"):
        sampling.sample(tmp_path / "p.safetensors", size=(0, 8), seeds=[0])
    with pytest.raises(ConfigError, match="got 8 x 8 and 0"):
        sampling.sample(tmp_path / "p.safetensors", size=(8, 8), seeds=[])
