"""PSNR and SSIM are scikit-image's, whatever the shape; fastMRI's are those of its script."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from invdiff.metrics import PRESETS, Protocol, evaluate
from invdiff.metrics.ssim import ssim_map

SHAPES = [(20, 17, 12), (48, 33, 13), (11, 70, 11)]
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5}
CASES = {
    "invdiff": GAUSSIAN | {"use_sample_covariance": False},
    "fastmri": {},
    "skimage": {},
}


def images(shape, offset=0.0):
    random = np.random.default_rng(0)
    reference = np.cumsum(random.normal(size=shape), 0) * 50 + offset
    return reference + 30 * random.normal(size=shape), reference


@pytest.mark.parametrize("ssim", ["2d", "3d"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_presets_are_scikit_image(shape, name, ssim):
    x, reference = images(shape)
    data_range = reference.max() if name == "fastmri" else np.ptp(reference)
    row = evaluate(x, reference, protocol=PRESETS[name], ssim=ssim)
    assert row["data_range"] == data_range
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, x, data_range=data_range), abs=1e-6)
    pairs = [(reference, x)] if ssim == "3d" else zip(np.moveaxis(reference, 2, 0), np.moveaxis(x, 2, 0), strict=True)
    want = np.mean([structural_similarity(r, v, data_range=data_range, **CASES[name]) for r, v in pairs])
    assert row["ssim"] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("sample_covariance", [False, True])
@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@pytest.mark.parametrize("ssim", ["2d", "3d"])
def test_the_map_is_scikit_image_at_each_voxel_borders_included(ssim, window, sample_covariance):
    x, reference = images((40, 35, 19), offset=-1000)
    protocol = Protocol(ssim=ssim, window=window, sample_covariance=sample_covariance)
    settings = {"use_sample_covariance": sample_covariance, "channel_axis": 2 if ssim == "2d" else None}
    settings |= GAUSSIAN if window == "gaussian" else {}
    want = structural_similarity(reference, x, data_range=700, full=True, **settings)[1]
    np.testing.assert_allclose(ssim_map(x, reference, 700, protocol), want, rtol=0, atol=1e-10)


def test_fastmri_is_its_script():
    """As fastmri/evaluate.py computes it, on volumes whose slices lie across the first axis."""
    x, reference = images((24, 20, 5))
    target, recon = np.moveaxis(reference, 2, 0), np.moveaxis(x, 2, 0)
    row = evaluate(x, reference, protocol=PRESETS["fastmri"])
    nmse = np.linalg.norm(target - recon) ** 2 / np.linalg.norm(target) ** 2
    psnr = peak_signal_noise_ratio(target, recon, data_range=target.max())
    ssim = sum(structural_similarity(t, r, data_range=target.max()) for t, r in zip(target, recon, strict=True)) / 5
    assert row["nmse"] == pytest.approx(nmse, rel=1e-9)
    assert row["psnr"] == pytest.approx(psnr, abs=1e-6)
    assert row["ssim"] == pytest.approx(ssim, abs=1e-6)


def test_one_slice_is_scikit_image():
    x, reference = (v[..., 0] for v in images((30, 25, 1)))
    row = evaluate(x, reference)
    data_range = np.ptp(reference)
    want = structural_similarity(reference, x, data_range=data_range, **CASES["invdiff"])
    assert row["ssim"] == pytest.approx(want, abs=1e-6)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, x, data_range=data_range), abs=1e-6)


def test_axes_in_another_order_in_memory_change_nothing():
    x, reference = images((20, 17, 12))
    turned = [np.asfortranarray(v) for v in (x, reference)]
    assert evaluate(*turned) == evaluate(x, reference)
