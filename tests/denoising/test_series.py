"""`denoise`: scale, header and b0s stay, nothing is invented, and what is refused says why."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.denoising import MPPCA, DiFusion, NLMeans, Patch2Self, denoise
from invdiff.denoising.mppca import analysed, patch
from invdiff.errors import ConfigError, DivergedError, ShapeError
from invdiff.noise import GaussianNoise
from invdiff.volumes.gradients import Gradients

from .conftest import SIGMA, array

MOST = {MPPCA: 0.5, Patch2Self: 0.75, NLMeans: 0.85, DiFusion: 0.6}  # of the noise may be left
METHODS = [MPPCA(), Patch2Self(), NLMeans(), DiFusion(steps=5, batch=4, crop=32, width=16)]


def test_mppca_knows_the_level_of_noise():
    """D3: within 2 % on noise alone, which is taken off."""
    x = (10 * np.random.default_rng(0).standard_normal((20, 20, 12, 30))).astype(np.float32)
    clean, sigma = analysed(x)
    inner = np.s_[3:-3, 3:-3, 3:-3]
    assert sigma[inner].mean() == pytest.approx(10, rel=0.02)
    assert (clean[inner] ** 2).mean() < 0.05 * 100


def test_mppca_leaves_what_theory_says():
    """rank (N + V - rank) / (N V) of the noise, of one patch."""
    g = np.random.default_rng(1)
    n, v, rank, sigma = 125, 40, 3, 1.0
    signal = 1000 + 30 * g.standard_normal((9**3, rank)) @ g.standard_normal((rank, v))
    x = (signal + sigma * g.standard_normal(signal.shape)).reshape(9, 9, 9, v).astype(np.float32)
    clean, _ = analysed(x)
    error = ((clean - signal.reshape(x.shape))[3:-3, 3:-3, 3:-3] ** 2).mean()
    one = (rank + 1) * (n + v - rank) / (n * v)  # and the mean
    assert error < 1.2 * one, "overlapping patches have less"
    assert error > 0.3 * one


def test_patches_have_more_voxels_than_volumes():
    assert patch((64, 64, 20, 32)) == [2, 2, 2]
    assert np.prod([2 * r + 1 for r in patch((104, 104, 2, 103))]) > 103
    assert patch((104, 104, 2, 103))[2] == 0


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_every_method_improves_the_series(method, noisy, phantom):
    r = denoise(noisy, phantom.gradients, method, mask=phantom.mask)
    weighted = torch.from_numpy(~phantom.gradients.b0)
    assert torch.equal(r.volume.data[~weighted], noisy.data[~weighted]), "b0s are kept"
    torch.testing.assert_close(r.volume.data + r.residual.data, noisy.data, atol=1e-3, rtol=0)
    inside = torch.from_numpy(phantom.mask)
    before, after = ((v.data - phantom.series.data)[weighted][:, inside].std() for v in (noisy, r.volume))
    assert float(after) < MOST[type(method)] * float(before)
    assert r.facts["noise"] == pytest.approx(SIGMA, rel=0.05)
    assert r.noise.data.shape == (1, *phantom.mask.shape)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_background_of_zeros(method, noisy, phantom):
    """Of a brain that was cut out: patches at its rim tell dipy no level of noise."""
    inside = torch.from_numpy(phantom.mask)
    bare = noisy.like(noisy.data * inside)
    r = denoise(bare, phantom.gradients, method, mask=phantom.mask)
    assert r.facts["noise"] == pytest.approx(SIGMA, rel=0.1)
    assert bool(torch.isfinite(r.noise.data).all())
    assert bool((r.noise.data[:, ~inside] == 0).all())
    assert float(r.noise.data[:, inside].min()) > 0
    weighted = torch.from_numpy(~phantom.gradients.b0)
    before, after = ((v.data - phantom.series.data)[weighted][:, inside].std() for v in (bare, r.volume))
    assert float(after) < MOST[type(method)] * float(before)
    assert not r.volume.data[:, ~inside].any(), "nothing is there"


def test_b0s_can_be_denoised_too(noisy, phantom):
    r = denoise(noisy, phantom.gradients, MPPCA(), mask=phantom.mask, b0="denoise")
    b0 = torch.from_numpy(phantom.gradients.b0)
    inside = torch.from_numpy(phantom.mask)
    before, after = ((v.data - phantom.series.data)[b0][:, inside].std() for v in (noisy, r.volume))
    assert float(after) < 0.8 * float(before)


def test_what_is_clean_comes_back(phantom):
    least = phantom.noisy(GaussianNoise(1.0))
    r = denoise(least, phantom.gradients, METHODS[-1], mask=phantom.mask)
    assert torch.equal(r.volume.data, least.data)
    assert r.facts["warnings"][0].endswith(" % of the signal, below 0.5 %: nothing was changed")


def test_the_mask_is_found(noisy, phantom):
    r = denoise(noisy, phantom.gradients, MPPCA())
    assert (r.mask == phantom.mask).mean() > 0.9


def test_refusals(noisy, phantom):
    few = phantom.gradients.rows(np.arange(10))
    with pytest.raises(ConfigError, match="10 b-values for 22 volumes; give the table of this series"):
        denoise(noisy, few, MPPCA())
    with pytest.raises(ShapeError, match=r"the mask has shape \(2, 2, 2\), the series \(40, 32, 6\)"):
        denoise(noisy, phantom.gradients, MPPCA(), mask=np.ones((2, 2, 2), bool))
    with pytest.raises(ShapeError, match="the mask is empty: nothing to denoise"):
        denoise(noisy, phantom.gradients, MPPCA(), mask=~phantom.mask & phantom.mask)
    short = noisy.like(noisy.data[:4])
    with pytest.raises(ConfigError, match="MPPCA needs 6 volumes or more, the series has 4"):
        denoise(short, phantom.gradients.rows(np.arange(4)), NLMeans())
    with pytest.raises(ConfigError, match="Patch2Self needs 10 volumes or more, the series has 8"):
        denoise(noisy.like(noisy.data[:8]), phantom.gradients.rows(np.arange(8)), Patch2Self())


def test_numbers_that_are_not_finite_are_no_result(noisy, phantom, monkeypatch):
    monkeypatch.setattr(DiFusion, "denoise", lambda self, series, run: np.full_like(series.data, np.nan))
    with pytest.raises(DivergedError, match="DiFusion gave numbers that are not finite; lower learning_rate"):
        denoise(noisy, phantom.gradients, METHODS[-1], mask=phantom.mask)


def test_without_dipy(noisy, phantom, monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name.startswith("dipy"):
            raise ImportError("No module named 'dipy'")
        return real(name, *rest)

    monkeypatch.setattr("invdiff.extras.import_module", missing)
    with pytest.raises(ConfigError, match=r"need dipy and scikit-learn .*; pip install 'invdiff\[dmri\]'"):
        denoise(noisy, phantom.gradients, MPPCA(), mask=phantom.mask)


def test_several_shells_and_no_b0(phantom):
    table = phantom.gradients
    weighted = np.flatnonzero(~table.b0)
    some = Gradients(np.where(np.arange(len(weighted)) % 2, 1000.0, 2000.0), table.bvecs[weighted])
    volume = phantom.series.like(phantom.noisy(GaussianNoise(SIGMA)).data[torch.from_numpy(weighted)])
    r = denoise(volume, some, replace(METHODS[-1]), mask=phantom.mask)
    assert r.facts["shells"] == {"1000": 10, "2000": 10}
    assert bool(torch.isfinite(r.volume.data).all())
    assert array(r.volume).shape[-1] == 20
