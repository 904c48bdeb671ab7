"""Di-Fusion on a phantom: what it gains, what it never does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.denoising import DiFusion, Run, Series
from invdiff.denoising.translation import Pairs, translating
from invdiff.errors import ConfigError
from invdiff.metrics.dmri import against_reference, without_reference
from invdiff.networks import Network
from invdiff.training.loop import Settings, begin, train

from .conftest import SIGMA, array

SMALL = DiFusion(steps=300, batch=8, crop=32, width=16, learning_rate=2e-3, ensemble=0)


@pytest.fixture(scope="module")
def clean(series):
    return SMALL.denoise(series, Run())


def test_noise_goes_and_anatomy_stays(clean, series, phantom):
    """4 dB and better tensors than the noisy series has; a residual of the noise's size, without edges."""
    truth = array(phantom.series)
    before, after = (against_reference(x, truth, series.gradients, series.mask) for x in (series.data, clean))
    (b,) = (b for b in before["shells"] if b != "0")
    assert after["shells"][b]["psnr"] > before["shells"][b]["psnr"] + 8
    assert after["fa_rmse_fibres"] < before["fa_rmse_fibres"]
    assert after["direction_degrees"] < 0.6 * before["direction_degrees"]
    told = without_reference(clean, series.data, series.gradients, series.mask)
    assert told["residual_edges"] < 0.1, "below 0 where a little noise is kept at edges"
    assert told["residual_std"] == pytest.approx(SIGMA, rel=0.1)


def test_contrasts_do_not_drift_to_another_volume(clean, series, phantom):
    """The error of a volume is no part of how the one before differs from it; as published it is."""
    truth = array(phantom.series)

    def drift(x):
        step = (np.roll(truth, 1, -1) - truth)[series.mask][:, ~series.gradients.b0]
        error = (x - truth)[series.mask][:, ~series.gradients.b0]
        return float((error * step).sum() / (step**2).sum())

    assert abs(drift(clean)) < 0.02
    published = replace(SMALL, steps=100, pairing="previous-volume", beside=0, means=False)
    assert drift(published.denoise(series, Run())) > 0.1


def test_pure_noise_comes_out_flat(series):
    """Two slices, of which x' is learned from few voxels; what that learned of noise would leave 0.18 of it."""
    g = np.random.default_rng(0)
    noise = (500 + SIGMA * g.standard_normal((*series.data.shape[:2], 2, 22))).astype(np.float32)
    thin = Series(noise, series.gradients, series.mask[:, :, 2:4], series.sigma[:, :, 2:4], noise)
    inside = replace(SMALL, steps=60).denoise(thin, Run())[thin.mask]
    assert inside.std() < 0.15 * SIGMA
    assert inside.mean() == pytest.approx(500, abs=0.05 * SIGMA)


def test_volumes_keep_their_scale(series):
    """Each is divided by its own maximum and multiplied again."""
    tenfold = series.data.copy()
    tenfold[..., 5] *= 10
    one = replace(SMALL, steps=5, pairing="previous-volume")
    out = one.denoise(replace(series, data=tenfold), Run())
    assert out[..., 5].max() == pytest.approx(tenfold[..., 5].max(), rel=0.2)


def test_killed_training_goes_on_to_the_same_bits(series, tmp_path):
    method, kept = replace(SMALL, steps=6), tmp_path / "a.checkpoint"
    whole = method.denoise(series, Run())

    class Killed(Exception):
        pass

    def stop(state):
        if state.step == 4:
            raise Killed

    with pytest.raises(Killed):
        method.denoise(series, Run(checkpoint=kept, every=0.0, tick=stop))
    steps = []
    again = method.denoise(series, Run(checkpoint=kept, every=0.0, tick=lambda s: steps.append(s.step)))
    assert steps[0] > 1, "from the checkpoint"
    np.testing.assert_array_equal(whole, again)
    with pytest.raises(ConfigError, match="belongs to a run with other settings"):
        replace(method, steps=7).denoise(series, Run(checkpoint=kept))
    with pytest.raises(ConfigError, match="belongs to a run on other data"):
        method.denoise(series, Run(checkpoint=kept, facts={"file": "other"}))


def test_too_few_volumes(series):
    few = Series(series.data[..., :5], series.gradients.rows(np.arange(5)), series.mask, series.sigma, series.data)
    with pytest.raises(ConfigError, match="DiFusion needs 6 volumes or more, the series has 5; take another --method"):
        SMALL.check(few)


class Scale(Network):
    """The residual as a multiple of the state."""

    def __init__(self):
        super().__init__()
        self.config, self.multiple_of = {}, 1
        self.factor = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, label):
        return self.factor * x


def test_the_limit_of_noise2noise_is_wieners():
    """The same signal of variance 1 in all volumes, noise of variance 0.5: the best factor of x' is 1 / 1.5."""
    g = torch.Generator().manual_seed(0)
    signal = torch.randn((1, 8, 32, 32), generator=g)
    x = signal + 0.5**0.5 * torch.randn((24, 8, 32, 32), generator=g)
    pairs = Pairs(x, x.roll(1, 0), x[:0], 0, (0, 31, 0, 31))
    settings = Settings(steps=400, batch=32, crop=32, grow_at=1.0, learning_rate=0.02, decay_from=0.5, ema=0.0)
    state = begin(pairs, settings, Scale())
    for _ in train(pairs, settings, state, translating("code", 1.0), bf16=False):
        pass
    factor = float(state.net.factor.detach())
    # The state has a little of the shuffled difference: sqrt(1 - l^2) e, of variance 1 - l^2 ~ 0.0076 on average.
    assert 1 + factor == pytest.approx(1 / 1.5, abs=0.01)


def test_the_ensemble_is_a_mean_of_network_and_mppca(series):
    none, half, all_ = (replace(SMALL, steps=2, ensemble=w).denoise(series, Run()) for w in (0, 0.5, 1))
    np.testing.assert_array_equal(all_, series.components)
    np.testing.assert_allclose(half, (none + all_) / 2, rtol=1e-5, atol=1e-3)
    assert np.abs(none - all_)[series.mask].mean() > 1, "the two would be the same"
