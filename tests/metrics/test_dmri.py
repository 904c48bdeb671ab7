"""What is said of a denoised series: known truths, and what is refused."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from invdiff.errors import ConfigError, ShapeError
from invdiff.metrics.dmri import against_reference, callosum, fit, without_reference
from invdiff_datasets.diffusion import PARALLEL, gradient_table, head

TABLE = gradient_table({1000: 20, 2000: 20}, b0=2)


@pytest.fixture(scope="module")
def phantom():
    return head((40, 32, 6), TABLE)


def array(volume):
    return np.ascontiguousarray(volume.data.numpy().transpose(1, 2, 3, 0))


def noisy(x, sigma, seed=0):
    return (x + sigma * np.random.default_rng(seed).standard_normal(x.shape)).astype(np.float32)


def test_one_tensor_is_found_exactly():
    direction = np.array([0.36, 0.48, 0.8])
    along = (TABLE.bvecs @ direction) ** 2
    signal = 700 * np.exp(-TABLE.bvals * (0.3e-3 + (PARALLEL - 0.3e-3) * along))
    x = np.broadcast_to(signal, (3, 3, 3, len(signal))).astype(np.float32)
    found = fit(x, TABLE, np.ones((3, 3, 3), bool))
    md = (PARALLEL + 0.6e-3) / 3
    fa = np.sqrt(1.5 * ((PARALLEL - md) ** 2 + 2 * (0.3e-3 - md) ** 2) / (PARALLEL**2 + 2 * 0.3e-3**2))
    np.testing.assert_allclose(found.md, md, rtol=1e-4)
    np.testing.assert_allclose(found.fa, fa, rtol=1e-4)
    np.testing.assert_allclose(abs(found.direction @ direction), 1, atol=1e-6)


def test_errors_of_known_size(phantom):
    truth = array(phantom.series)
    x = noisy(truth, 10.0)
    found = against_reference(x, truth, TABLE, phantom.mask)
    assert set(found["shells"]) == {"0", "1000", "2000"}
    for b, index in (("0", TABLE.b0), *((str(b), i) for b, i in TABLE.shells().items())):
        want = 20 * np.log10(truth[..., index][phantom.mask].max() / 10)
        assert found["shells"][b]["psnr"] == pytest.approx(want, abs=0.1)
    same = against_reference(truth, truth, TABLE, phantom.mask)
    assert same["shells"]["1000"] == {"psnr": np.inf, "ssim": pytest.approx(1)}
    assert same["fa_rmse"] == same["direction_degrees"] == 0 or same["direction_degrees"] < 0.05
    more = against_reference(noisy(truth, 30.0), truth, TABLE, phantom.mask)
    for key in ("fa_rmse", "md_rmse", "fa_rmse_fibres", "direction_degrees"):
        assert more[key] > 1.5 * found[key]
    turned = truth[::-1].copy()
    assert against_reference(turned, truth, TABLE, phantom.mask)["fa_rmse"] > more["fa_rmse_fibres"]


def test_the_residual_tells_noise_from_anatomy(phantom):
    truth = array(phantom.series)
    raw = noisy(truth, 30.0)
    ideal = without_reference(truth, raw, TABLE, phantom.mask)
    assert abs(ideal["residual_edges"]) < 0.1
    assert abs(ideal["residual_between"]) < 0.02
    assert ideal["residual_std"] == pytest.approx(30, rel=0.02)
    smooth = gaussian_filter(raw, (1.5, 1.5, 1.5, 0))
    blurred = without_reference(smooth, raw, TABLE, phantom.mask)
    assert blurred["residual_edges"] > 0.4
    assert blurred["residual_between"] > 0.1
    assert blurred["r2_own"] > blurred["r2_raw"], "what is smooth is easy to predict"
    assert ideal["r2_raw"] > blurred["r2_raw"]


def test_the_callosum_is_found(phantom):
    """Between the ventricles and beside them fibres run from left to right; there is noise around the head."""
    wide = head((64, 64, 6), TABLE)
    raw = noisy(array(wide.series), 5.0)
    small = wide.mask.copy()
    small[:, :, :] = False
    small[20:44, 16:48] = wide.mask[20:44, 16:48]
    found = callosum(raw, raw, TABLE, small)
    assert found["snr"] > found["cnr"] > 1
    whole = np.ones(wide.mask.shape, bool)
    assert callosum(raw, raw, TABLE, whole) == {"snr": None, "cnr": None}, "no voxel is outside"
    alike = np.full_like(raw, 100.0)
    assert callosum(alike, alike, TABLE, small) == {"snr": None, "cnr": None}, "nothing runs left to right"


def test_of_two_callosa_of_one_size_it_is_the_first(phantom):
    """A threshold that keeps voxels here and there has many parts of one size."""
    D = np.full((32, 32, 4, 3), 8e-4)
    D[12, 16, 2] = D[19, 16, 2] = 17e-4, 1e-4, 1e-4
    raw = noisy((1000 * np.exp(-TABLE.bvals * (D @ TABLE.bvecs.T**2))).astype(np.float32), 1.0)
    raw[12, 16, 2] *= 2
    mask = np.zeros(D.shape[:3], bool)
    mask[10:22, 10:22] = True
    once = raw.copy()
    once[19, 16, 2] = raw[0, 0, 0]
    found = callosum(raw, raw, TABLE, mask)
    assert found["snr"] > found["cnr"] > 100
    assert found == pytest.approx(callosum(once, once, TABLE, mask), rel=0.01)


def test_refusals(phantom):
    x = array(phantom.series)
    with pytest.raises(ShapeError, match=r"the series has shape \(40, 32, 6, 42\), the other one \(40, 32, 6, 41\)"):
        against_reference(x, x[..., 1:], TABLE, phantom.mask)
    with pytest.raises(ShapeError, match=r"the mask has shape \(2, 2, 2\), the series \(40, 32, 6\)"):
        without_reference(x, x, TABLE, np.ones((2, 2, 2), bool))
    with pytest.raises(ShapeError, match="the mask is empty: nothing to compare"):
        against_reference(x, x, TABLE, np.zeros((40, 32, 6), bool))
    with pytest.raises(ShapeError, match=r"SSIM's window has 11 voxels a side, the slices only \(8, 32\)"):
        against_reference(x[:8], x[:8], TABLE, phantom.mask[:8] | True)
    few = TABLE.rows(np.arange(5))
    with pytest.raises(ConfigError, match="a tensor needs six weighted volumes and one without weighting, the series "):
        fit(x[..., :5], few, phantom.mask)
