"""Phantoms of diffusion: directions, signal and noise as they say."""

import numpy as np
import pytest
import torch

from invdiff.metrics.dmri import fit
from invdiff.noise import GaussianNoise, NonCentralChiNoise, RicianNoise
from invdiff_datasets.diffusion import CSF, gradient_table, head

TABLE = gradient_table({1000: 30}, b0=3)


@pytest.fixture(scope="module")
def phantom():
    return head((48, 40, 8), TABLE)


def test_directions_are_spread():
    """No two of 30 nearer than 22 degrees, opposites counted; random ones come within a few."""
    g = TABLE.bvecs[~TABLE.b0]
    np.testing.assert_allclose(np.linalg.norm(g, axis=1), 1)
    along = abs(g @ g.T) - np.eye(30)
    assert np.degrees(np.arccos(along.max())) > 22
    assert TABLE.b0.sum() == 3
    assert TABLE.b0[0]
    both = gradient_table({1000: 10, 3000: 10})
    assert list(both.shells()) == [1000, 3000]
    assert not (np.diff(both.bvals[1:]) >= 0).all(), "shells are mixed, as scanners have them"


def test_the_signal_has_the_fibres(phantom):
    """Where one bundle is nearly alone the tensor points along it; without weighting there is no direction."""
    x = np.ascontiguousarray(phantom.series.data.numpy().transpose(1, 2, 3, 0))
    tensors = fit(x, TABLE, phantom.mask)
    for k in range(3):
        alone = phantom.mask & (phantom.fractions[..., k] > 0.7)
        assert alone.sum() > 20
        cosine = abs((tensors.direction * phantom.fibres[..., k, :]).sum(-1))[alone]
        assert np.degrees(np.arccos(np.clip(cosine, 0, 1))).mean() < 5
        assert tensors.fa[alone].mean() > 0.5
    assert phantom.fractions.sum(-1).max() <= 1
    crossing = (phantom.fractions > 0.25).sum(-1) > 1
    assert crossing.sum() > 50
    assert tensors.fa[crossing].mean() < 0.75 * tensors.fa[(phantom.fractions > 0.7).any(-1)].mean()
    assert tensors.md[phantom.mask].max() == pytest.approx(CSF, rel=0.05)
    assert float(phantom.series.data[:, ~torch.from_numpy(phantom.mask)].abs().max()) == 0


@pytest.mark.parametrize("noise", [GaussianNoise(20.0), RicianNoise(20.0), NonCentralChiNoise(20.0, coils=4)])
def test_noise_has_its_law(noise, phantom):
    y = phantom.noisy(noise, seed=3)
    assert torch.equal(y.data, phantom.noisy(noise, seed=3).data)
    air = y.data[:, ~torch.from_numpy(phantom.mask)]
    power = {GaussianNoise: 1, RicianNoise: 2, NonCentralChiNoise: 8}[type(noise)] * 400
    assert float(air.square().mean()) == pytest.approx(power, rel=0.02)
    assert not torch.equal(air[0], air[1])
