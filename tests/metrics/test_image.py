import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from invdiff.errors import ShapeError
from invdiff.metrics import evaluate

R = np.random.default_rng(0)
REFERENCE = R.random((20, 17, 12)) * 50
IMAGE = REFERENCE + R.normal(size=REFERENCE.shape)
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def test_is_scikit_image():
    row = evaluate(IMAGE, REFERENCE)
    data_range = np.ptp(REFERENCE)
    assert row["data_range"] == data_range
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(REFERENCE, IMAGE, data_range=data_range), abs=1e-6)
    slices = [structural_similarity(REFERENCE[..., k], IMAGE[..., k], data_range=data_range, **SSIM) for k in range(12)]
    assert row["ssim"] == pytest.approx(np.mean(slices), abs=1e-6)
    want = np.linalg.norm(IMAGE - REFERENCE) / np.linalg.norm(REFERENCE)
    assert row["nrmse"] == pytest.approx(want)
    volume = structural_similarity(REFERENCE, IMAGE, data_range=data_range, **SSIM)
    assert evaluate(IMAGE, REFERENCE, ssim="3d")["ssim"] == pytest.approx(volume, abs=1e-6)


def test_mask_counts_only_what_is_inside():
    mask = np.zeros(REFERENCE.shape, bool)
    mask[5:15, 5:12, 3:9] = True
    image = np.where(mask, REFERENCE, 0.0)
    row = evaluate(image, REFERENCE, mask=mask)
    assert row["nrmse"] == 0
    assert row["mask"]
    assert row["voxels"] == mask.sum()
    assert evaluate(IMAGE, REFERENCE, mask=mask)["psnr"] < 40


def test_row_names_its_protocol():
    assert {"data_range", "ssim_mode", "window", "mask", "voxels"} <= set(evaluate(IMAGE, REFERENCE))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((IMAGE[1:], REFERENCE), {}, "the image has shape"),
        ((IMAGE, REFERENCE), {"mask": np.ones((3, 3, 3), bool)}, "the mask has shape"),
        ((IMAGE, REFERENCE), {"mask": np.zeros(IMAGE.shape, bool)}, "mask is empty"),
        ((IMAGE, np.ones_like(IMAGE)), {}, "reference is constant"),
        ((IMAGE[:9], REFERENCE[:9]), {}, "window has 11 voxels a side, the volume only"),
        ((IMAGE[:, :, :9], REFERENCE[:, :, :9]), {"ssim": "3d"}, "the volume only"),
    ],
)
def test_messages(args, kwargs, message):
    with pytest.raises(ShapeError, match=message):
        evaluate(*args, **kwargs)
