"""Rows of methods: matched by scan and frame, refused where they do not belong together."""

import math
import re

import numpy as np
import pytest
from scipy.stats import wilcoxon

from invdiff.errors import ConfigError
from invdiff.metrics import PRESETS, Likeness, Protocol
from invdiff.metrics.paired import compare
from invdiff.metrics.rows import means, number
from invdiff.metrics.statistics import holm

R = np.random.default_rng(0)
TRUTHS = [np.cumsum(R.normal(size=(16, 15, 3)), 0) for _ in range(8)]
NOTHING = {"slice": None, "region": None}


def rows_of(level, seed, protocol=PRESETS["invdiff"], count=8):
    rng = np.random.default_rng(seed)
    out = []
    for n, truth in enumerate(TRUTHS[:count]):
        row = Likeness(truth + level * rng.normal(size=truth.shape), truth, protocol=protocol).whole()
        out.append({"image": f"scan{n}.nii.gz", "frame": 0, **NOTHING, **row})
    return out


TV, DPS, CG = rows_of(0.5, 1), rows_of(0.4, 2), rows_of(0.5, 3)


def test_two_methods():
    (psnr, ssim), left = compare({"tv": TV, "dps": DPS})
    assert left == []
    assert (psnr["metric"], psnr["region"], psnr["a"], psnr["b"], psnr["pairs"]) == ("psnr", None, "tv", "dps", 8)
    a, b = (np.array([row["psnr"] for row in rows]) for rows in (TV, DPS))
    assert psnr["difference"] == pytest.approx(b.mean() - a.mean())
    assert 1.5 < psnr["low"] < psnr["difference"] < psnr["high"] < 2.4  # 20 log10(0.5 / 0.4) = 1.94
    assert psnr["p"] == wilcoxon(b, a).pvalue
    assert (psnr["protocol"], psnr["protocol_hash"]) == ("invdiff", Protocol().hash)
    assert [psnr["p_holm"], ssim["p_holm"]] == pytest.approx(holm([psnr["p"], ssim["p"]]))


def test_all_pairs_of_methods_and_one_correction():
    found, _ = compare({"tv": TV, "dps": DPS, "cg": CG}, ["psnr", "hfen"])
    pairs = [("tv", "dps"), ("tv", "cg"), ("dps", "cg")]
    assert [(row["metric"], row["a"], row["b"]) for row in found] == [(m, *p) for m in ("psnr", "hfen") for p in pairs]
    assert [row["p_holm"] for row in found] == pytest.approx(holm([row["p"] for row in found]))
    assert found[1]["p"] > 0.05 > found[0]["p_holm"]


def test_order_and_text_do_not_matter():
    text = [{k: str(v) if v is not None else "n/a" for k, v in row.items()} for row in reversed(DPS)]
    (psnr,), left = compare({"tv": TV, "dps": text}, ["psnr"])
    (want,), _ = compare({"tv": TV, "dps": DPS}, ["psnr"])
    assert psnr == want
    assert left == []


def test_what_is_left_out_is_told():
    infinite = [row | {"psnr": math.inf} if n == 2 else row for n, row in enumerate(DPS)]
    missing = [row | {"psnr": "n/a"} if n == 3 else row for n, row in enumerate(TV)]
    slices = [row | {"slice": 0} for row in TV]
    (psnr, ssim), left = compare({"tv": missing[:7] + slices, "dps": infinite[1:]})
    assert left == [
        "rows of slices in tv: slices of one scan are no independent pairs",
        "scan0.nii.gz frame 0: only in tv",
        "scan2.nii.gz frame 0: psnr is inf in dps",
        "scan3.nii.gz frame 0: psnr is n/a in tv",
        "scan7.nii.gz frame 0: only in dps",
    ]
    assert (psnr["pairs"], ssim["pairs"]) == (4, 6)
    assert (psnr["p"], psnr["p_holm"], psnr["note"]) == (None, None, "Wilcoxon's test needs 6 pairs that differ, got 4")
    assert psnr["low"] < psnr["high"]
    assert ssim["p_holm"] == ssim["p"]


def test_frames_and_names():
    """`name` tells scans apart before `image`, or what `scan` says."""
    frames = [row | {"image": "series.nii.gz", "frame": n} for n, row in enumerate(TV)]
    named = [row | {"name": "series", "image": f"{n}.nii.gz"} for n, row in enumerate(frames)]
    assert compare({"a": frames, "b": frames})[0][0]["pairs"] == 8
    assert compare({"a": named, "b": named})[0][0]["pairs"] == 8
    other = [row | {"image": f"dps{n}.nii.gz", "reference": f"t{n}.nii.gz"} for n, row in enumerate(DPS)]
    ours = [row | {"reference": f"t{n}.nii.gz"} for n, row in enumerate(TV)]
    assert compare({"a": ours, "b": other}, scan="reference")[0][0]["pairs"] == 8


def test_regions_are_compared_by_themselves():
    labels = np.zeros((16, 15, 3), int)
    labels[2:8], labels[8:14] = 1, 2
    tables = {}
    for name, seed in (("tv", 1), ("dps", 2)):
        rng, tables[name] = np.random.default_rng(seed), []
        for n, truth in enumerate(TRUTHS):
            likeness = Likeness(truth + 0.5 * rng.normal(size=truth.shape), truth)
            found = [likeness.whole(), *likeness.regions(labels, {1: "left"})]
            tables[name] += [{"image": str(n), "frame": 0, **row} for row in found]
    found, left = compare(tables, ["psnr"])
    assert left == []
    assert [(row["region"], row["pairs"]) for row in found] == [(None, 8), ("left", 8), ("2", 8)]
    assert [row["protocol_hash"] for row in found] == [Protocol().hash] + 2 * [Protocol(mask=True).hash]
    want = np.mean([row["psnr"] for row in tables["tv"] if row.get("region") == "left"])
    assert found[1]["mean_a"] == pytest.approx(want)


def test_other_protocols_are_refused():
    fastmri = rows_of(0.4, 2, PRESETS["fastmri"])
    told = f"tv was measured by invdiff ({Protocol().hash}), dps by fastmri ({PRESETS['fastmri'].hash})"
    with pytest.raises(ConfigError, match=re.escape(f"rows of different protocols are not compared: {told}")):
        compare({"tv": TV, "dps": fastmri})
    masked = [row | {"protocol_hash": Protocol(mask=True).hash} for row in DPS]
    with pytest.raises(ConfigError, match=r"dps by invdiff \([0-9a-f]{12}\); evaluate all by one --protocol, with mas"):
        compare({"tv": TV, "dps": masked})


MESSAGES = {
    "one": ({"tv": TV}, {}, "a comparison takes two methods, got 1"),
    "empty": ({"tv": TV, "dps": []}, {}, "dps has no rows"),
    "metric": ({"tv": TV, "dps": DPS}, {"metrics": ["psrn"]}, "tv has no column 'psrn'; it has image, frame, slice"),
    "scan": ({"tv": TV, "dps": DPS}, {"scan": "subject"}, "tv has no column 'subject'; it has image,"),
    "protocol": (
        {"tv": [{"image": "a", "psnr": 3, "protocol": "x"}], "dps": DPS},
        {"metrics": ["psnr"]},
        "tv has no column 'protocol_hash'; it has image, psnr, protocol",
    ),
    "twice": ({"tv": TV + TV[:1], "dps": DPS}, {}, "tv has two rows of scan0.nii.gz frame 0; --scan names the column"),
    "text": (
        {"tv": TV, "dps": [row | {"psnr": "high"} for row in DPS]},
        {},
        "dps, scan0.nii.gz frame 0: psnr is 'high', which is no number",
    ),
    "voxels": (
        {"tv": TV, "dps": [row | {"voxels": 99} for row in DPS]},
        {},
        "scan0.nii.gz frame 0: tv and dps have 720 and 99 voxels; evaluate both in the same mask",
    ),
    "others": (
        {"tv": TV, "dps": [row | {"image": "x" + row["image"]} for row in DPS]},
        {},
        "tv and dps share no scan and frame with finite psnr or ssim; --scan names the column that tells scans apart",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    methods, settings, message = MESSAGES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        compare(methods, **settings)


def test_means_are_of_one_protocol():
    found = means(TV)
    assert found == {
        m: pytest.approx(np.mean([row[m] for row in TV])) for m in ("psnr", "ssim", "nrmse", "nmse", "hfen")
    }
    told = f"rows of the protocols invdiff ({Protocol().hash}) and fastmri ({PRESETS['fastmri'].hash}) are not averaged"
    with pytest.raises(ConfigError, match=re.escape(told)):
        means(TV + rows_of(0.4, 2, PRESETS["fastmri"], count=1))


def test_means_leave_out_what_is_missing():
    rows = [TV[0] | {"hfen": math.nan, "psnr": math.inf, "ssim": None}, TV[1] | {"ssim": "n/a"}]
    found = means(rows)
    assert found["psnr"] == math.inf
    assert found["hfen"] == TV[1]["hfen"]
    assert "ssim" not in found


def test_numbers():
    assert (number("1e-3"), number("inf"), number(2)) == (0.001, math.inf, 2)
    assert all(math.isnan(number(cell)) for cell in (None, "", "n/a"))
    with pytest.raises(ConfigError, match="a cell is 'x', which is no number"):
        number("x")
