import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.ndimage import convolve
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from invdiff.errors import ConfigError, ShapeError
from invdiff.metrics import PRESETS, Likeness, Protocol, evaluate

R = np.random.default_rng(0)
REFERENCE = R.random((20, 17, 12)) * 50
IMAGE = REFERENCE + R.normal(size=REFERENCE.shape)
MASK = np.zeros(REFERENCE.shape, bool)
MASK[5:15, 5:12, 3:9] = True
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
    image = np.where(MASK, REFERENCE, 0.0)
    row = evaluate(image, REFERENCE, mask=MASK)
    assert row["nrmse"] == 0
    assert row["mask"]
    assert row["voxels"] == MASK.sum()
    assert evaluate(IMAGE, REFERENCE, mask=MASK)["psnr"] < 40


def test_row_names_its_protocol():
    row = evaluate(IMAGE, REFERENCE)
    assert list(row) == [
        "psnr", "ssim", "nrmse", "nmse", "hfen", "data_range", "ssim_mode", "window", "mask", "voxels", "protocol",
        "protocol_hash",
    ]  # fmt: skip
    assert (row["protocol"], row["protocol_hash"]) == ("invdiff", Protocol().hash)
    assert row["voxels"] == REFERENCE.size
    masked = evaluate(IMAGE, REFERENCE, mask=MASK, protocol=PRESETS["fastmri"], ssim="3d")
    assert (masked["mask"], masked["voxels"], masked["window"]) == (True, MASK.sum(), "uniform, 7 voxels")
    assert masked["protocol_hash"] == replace(PRESETS["fastmri"], mask=True, ssim="3d").hash


def ssim_of(voxel, protocol):
    """By its definition, from the weights of the window around a voxel; what lies outside is mirrored."""
    half, axes = protocol.side // 2, 3 if protocol.ssim == "3d" else 2
    offsets = np.arange(-half, half + 1)
    one = np.exp(-0.5 * (offsets / 1.5) ** 2) if protocol.window == "gaussian" else np.ones(len(offsets))
    total = a = b = aa = bb = ab = 0.0
    for steps in product(range(len(offsets)), repeat=axes):
        weight = np.prod([one[s] for s in steps])
        at = list(voxel)
        for axis, step in enumerate(steps):
            at[axis] = mirrored(voxel[axis] + offsets[step], REFERENCE.shape[axis])
        x, r = IMAGE[tuple(at)], REFERENCE[tuple(at)]
        total += weight
        a, b, aa, bb, ab = a + weight * x, b + weight * r, aa + weight * x * x, bb + weight * r * r, ab + weight * x * r
    a, b, aa, bb, ab = (v / total for v in (a, b, aa, bb, ab))
    n = len(offsets) ** axes
    unbiased = n / (n - 1) if protocol.sample_covariance else 1
    data_range = REFERENCE.max() - (REFERENCE.min() if protocol.data_range == "max-min" else 0)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    spread = unbiased * (aa - a * a + bb - b * b)
    return (2 * a * b + c1) * (2 * unbiased * (ab - a * b) + c2) / ((a * a + b * b + c1) * (spread + c2))


def mirrored(i, n):
    return -i - 1 if i < 0 else 2 * n - 1 - i if i >= n else i


@pytest.mark.parametrize("name", PRESETS)
def test_masked_figures_are_those_of_a_loop_over_the_mask(name):
    protocol = PRESETS[name]
    mask = np.zeros(REFERENCE.shape, bool)
    mask[0, ::5, ::4] = mask[8, 3, 2:5] = mask[19, 16, 11] = True
    errors, powers, similar = [], [], []
    for voxel in zip(*np.nonzero(mask), strict=True):
        errors.append((IMAGE[voxel] - REFERENCE[voxel]) ** 2)
        powers.append(REFERENCE[voxel] ** 2)
        similar.append(ssim_of(voxel, protocol))
    peak = REFERENCE.max() - (0 if name == "fastmri" else REFERENCE.min())
    row = evaluate(IMAGE, REFERENCE, mask=mask, protocol=protocol)
    assert row["voxels"] == len(errors)
    assert row["psnr"] == pytest.approx(10 * math.log10(peak**2 / (sum(errors) / len(errors))), abs=1e-9)
    assert row["nrmse"] == pytest.approx(math.sqrt(sum(errors) / sum(powers)), rel=1e-12)
    assert row["nmse"] == pytest.approx(sum(errors) / sum(powers), rel=1e-12)
    assert row["ssim"] == pytest.approx(sum(similar) / len(similar), abs=1e-9)


def laplacian_of_gaussian():
    """fspecial("log", 15, 1.5), from its formula."""
    i, j = np.mgrid[-7:8, -7:8]
    gaussian = np.exp(-(i**2 + j**2) / (2 * 1.5**2))
    kernel = gaussian / gaussian.sum() * (i**2 + j**2 - 2 * 1.5**2) / 1.5**4
    return kernel - kernel.mean()


@pytest.mark.parametrize("mask", [None, "some"])
def test_hfen_is_that_of_a_15_by_15_kernel_in_each_slice(mask):
    inside = MASK if mask else np.ones(REFERENCE.shape, bool)
    kernel = laplacian_of_gaussian()[..., None]
    error, detail = (convolve(v, kernel, mode="reflect")[inside] for v in (IMAGE - REFERENCE, REFERENCE))
    want = np.sqrt((error**2).sum() / (detail**2).sum())
    assert evaluate(IMAGE, REFERENCE, mask=MASK if mask else None)["hfen"] == pytest.approx(want, rel=1e-9)


def test_hfen_sees_detail_alone():
    """1 where all of it is lost, 0 for an offset, and a scale for what it is."""
    flat = np.full(REFERENCE.shape, REFERENCE.mean())
    assert evaluate(flat, REFERENCE)["hfen"] == pytest.approx(1, abs=1e-9)
    assert evaluate(REFERENCE + 30, REFERENCE)["hfen"] < 1e-9
    assert evaluate(REFERENCE * 0.7, REFERENCE)["hfen"] == pytest.approx(0.3, rel=1e-9)


def test_equal_images():
    row = evaluate(REFERENCE, REFERENCE)
    assert (row["psnr"], row["nrmse"], row["nmse"], row["hfen"]) == (math.inf, 0, 0, 0)
    assert row["ssim"] == pytest.approx(1)


def test_what_has_no_reference_inside_is_not_a_number():
    """Zeros against zeros say nothing; something against zeros is infinitely far."""
    reference = np.pad(REFERENCE, ((0, 20), (0, 0), (0, 0)))
    empty = np.zeros(reference.shape, bool)
    empty[-3:] = True
    row = evaluate(reference, reference, mask=empty)
    assert math.isnan(row["nrmse"])
    assert math.isnan(row["hfen"])
    assert evaluate(reference + 1, reference, mask=empty)["nrmse"] == math.inf


@pytest.mark.parametrize("name", PRESETS)
def test_slices(name):
    protocol = PRESETS[name]
    likeness = Likeness(IMAGE, REFERENCE, protocol=protocol)
    rows = likeness.slices()
    assert [row["slice"] for row in rows] == list(range(12))
    data_range = likeness.whole()["data_range"]
    for row in rows:
        x, reference = (v[..., row["slice"]] for v in (IMAGE, REFERENCE))
        psnr = peak_signal_noise_ratio(reference, x, data_range=data_range)
        assert row["psnr"] == pytest.approx(psnr, abs=1e-6)
        assert row["nrmse"] == pytest.approx(np.linalg.norm(x - reference) / np.linalg.norm(reference))
        assert (row["data_range"], row["voxels"]) == (data_range, x.size)
        if protocol.ssim == "2d":
            settings = SSIM if name == "invdiff" else {}
            want = structural_similarity(reference, x, data_range=data_range, **settings)
            assert row["ssim"] == pytest.approx(want, abs=1e-6)
    if protocol.ssim == "3d":  # the map of the volume, cut in slices
        inner = [row["ssim"] for row in rows[3:-3]]
        assert np.mean(inner) == pytest.approx(likeness.whole()["ssim"], abs=1e-12)
    else:
        assert np.mean([row["ssim"] for row in rows]) == pytest.approx(likeness.whole()["ssim"], abs=1e-12)


def test_slices_and_regions_in_a_mask():
    likeness = Likeness(IMAGE, REFERENCE, mask=MASK)
    rows = likeness.slices()
    assert [row["slice"] for row in rows] == list(range(3, 9))
    assert sum(row["voxels"] for row in rows) == MASK.sum()
    labels = np.zeros(MASK.shape)
    labels[:10], labels[10:18], labels[18:] = 7, -2, 9
    inside = [labels == 7, labels == -2]
    for row, region in zip(likeness.regions(labels, {7: "left", 8: "nowhere"}), reversed(inside), strict=True):
        own = evaluate(IMAGE, REFERENCE, mask=region & MASK)
        assert row == {"region": "left" if row["region"] == "left" else "-2"} | own


def test_regions_are_masks():
    labels = np.zeros(REFERENCE.shape, np.int16)
    labels[3:9, 4:9, 1:5], labels[12:18, ::3, 2:] = 3, 1000
    rows = Likeness(IMAGE, REFERENCE).regions(labels)
    assert [row["region"] for row in rows] == ["3", "1000"]
    for row, label in zip(rows, (3, 1000), strict=True):
        own = evaluate(IMAGE, REFERENCE, mask=labels == label)
        assert row == {"region": str(label)} | own
        assert row["protocol_hash"] == Protocol(mask=True).hash
    assert Likeness(IMAGE, REFERENCE).regions(np.zeros(REFERENCE.shape)) == []


def test_the_range_of_each_slice():
    protocol = Protocol(name="slices", range_of="slice")
    scaled = REFERENCE * np.linspace(1, 5, 12)
    x = scaled + IMAGE - REFERENCE
    row = evaluate(x, scaled, protocol=protocol)
    ranges = np.ptp(scaled, (0, 1))
    pairs = [(scaled[..., k], x[..., k], ranges[k]) for k in range(12)]
    psnr = np.mean([peak_signal_noise_ratio(r, v, data_range=d) for r, v, d in pairs])
    ssim = np.mean([structural_similarity(r, v, data_range=d, **SSIM) for r, v, d in pairs])
    assert row["psnr"] == pytest.approx(psnr, abs=1e-6)
    assert row["ssim"] == pytest.approx(ssim, abs=1e-6)
    assert row["data_range"] is None
    even = REFERENCE / np.ptp(REFERENCE, (0, 1))  # the mean over slices, were their ranges the same too
    psnr = np.mean([peak_signal_noise_ratio(even[..., k], 0 * x[..., k], data_range=1) for k in range(12)])
    assert evaluate(0 * x, even, protocol=protocol)["psnr"] == pytest.approx(psnr, abs=1e-6)
    rows = Likeness(x, scaled, protocol=protocol).slices()
    assert [r["data_range"] for r in rows] == ranges.tolist()
    masked = [peak_signal_noise_ratio(r[5:15, 5:12], v[5:15, 5:12], data_range=d) for r, v, d in pairs[3:9]]
    assert evaluate(x, scaled, mask=MASK, protocol=protocol)["psnr"] == pytest.approx(np.mean(masked), abs=1e-6)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((IMAGE[1:], REFERENCE), {}, "the image has shape"),
        ((IMAGE, REFERENCE), {"mask": np.ones((3, 3, 3), bool)}, "the mask has shape"),
        ((IMAGE, REFERENCE), {"mask": np.zeros(IMAGE.shape, bool)}, "mask is empty"),
        ((IMAGE, np.ones_like(IMAGE)), {}, "reference is constant"),
        ((IMAGE[:9], REFERENCE[:9]), {}, "window has 11 voxels a side, the volume only"),
        ((IMAGE[:, :, :9], REFERENCE[:, :, :9]), {"ssim": "3d"}, "the volume only"),
        ((IMAGE[:6], REFERENCE[:6]), {"protocol": PRESETS["fastmri"]}, "window has 7 voxels a side, the volume only"),
        (
            (IMAGE[..., None], REFERENCE[..., None]),
            {},
            r"shape \(20, 17, 12, 1\); give a volume \(X, Y, Z\) or a slice",
        ),
        ((IMAGE, -REFERENCE), {"protocol": PRESETS["fastmri"]}, "the reference has no value above 0: protocol fastmri"),
        (
            (IMAGE, REFERENCE * (np.arange(12) != 4)),
            {"protocol": Protocol(range_of="slice")},
            "slice 4 of the reference is constant",
        ),
    ],
)
def test_messages(args, kwargs, message):
    with pytest.raises(ShapeError, match=message):
        evaluate(*args, **kwargs)


def test_messages_of_labels_and_masks():
    likeness = Likeness(IMAGE, REFERENCE)
    with pytest.raises(ShapeError, match=r"the labels have shape \(3, 3, 3\), the reference \(20, 17, 12\)"):
        likeness.regions(np.ones((3, 3, 3)))
    with pytest.raises(ShapeError, match="labels are whole numbers, some of these are not; resample labels by nearest"):
        likeness.regions(np.full(REFERENCE.shape, 0.5))
    with pytest.raises(ConfigError, match="protocol invdiff counts the voxels of a mask; give one"):
        evaluate(IMAGE, REFERENCE, protocol=Protocol(mask=True))
