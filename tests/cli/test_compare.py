"""`invdiff compare`: TSVs as `evaluate` and batches write them, read back."""

import csv
import io
import json

import numpy as np
import pytest
from scipy.stats import wilcoxon

from invdiff.metrics import PRESETS

HASH = PRESETS["invdiff"].hash
HEADER = [
    "name", "input", "frame", "method", "psnr", "ssim", "hfen", "seconds", "protocol", "protocol_hash", "warnings",
]  # fmt: skip


def batch(path, method, level, *, scans=8, protocol="invdiff", seed=0):
    """As a batch's results.tsv."""
    random = np.random.default_rng(seed)
    rows = [
        [f"s{n}", f"s{n}.nii.gz", "0", method, f"{level + random.normal():.4f}", f"{0.9 + 0.01 * random.normal():.4f}",
         "n/a", "1.5", protocol, PRESETS[protocol].hash, "n/a"]
        for n in range(scans)
    ]  # fmt: skip
    path.write_text("\n".join("\t".join(row) for row in [HEADER, *rows]) + "\n")
    return path


def column(path, name):
    with path.open() as f:
        return np.array([float(row[name]) for row in csv.DictReader(f, delimiter="\t")])


@pytest.fixture
def tv(tmp_path):
    return batch(tmp_path / "one.tsv", "tv", 30)


@pytest.fixture
def dps(tmp_path):
    return batch(tmp_path / "two.tsv", "dps", 32, seed=1)


def test_json(tv, dps, cli):
    done = cli("compare", tv, dps, "--json", "--seed", 4, "--confidence", 0.9)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["seed"], found["confidence"], found["resamples"], found["left_out"]) == (4, 0.9, 9999, [])
    psnr, ssim = found["comparisons"]
    a, b = column(tv, "psnr"), column(dps, "psnr")
    assert (psnr["a"], psnr["b"], psnr["metric"], psnr["pairs"]) == ("tv", "dps", "psnr", 8)
    assert psnr["difference"] == pytest.approx((b - a).mean())
    assert psnr["low"] < psnr["difference"] < psnr["high"]
    assert psnr["p"] == pytest.approx(wilcoxon(b - a).pvalue)
    assert ssim["metric"] == "ssim"
    assert cli("compare", tv, dps, "--json", "--seed", 4, "--confidence", 0.9).out == done.out
    assert cli("compare", tv, dps, "--json", "--seed", 5, "--confidence", 0.9).out != done.out


def test_text_and_tsv(tv, dps, tmp_path, cli):
    third = batch(tmp_path / "three.tsv", "cg", 29, scans=5, seed=2)
    done = cli("compare", tv, dps, third, "--metric", "psnr")
    assert done.err == "".join(
        f"invdiff: left out: s{n} frame 0: only in {name}\n" for name in ("tv", "dps") for n in (5, 6, 7)
    )
    title, *lines, protocol = done.out.splitlines()
    assert title.split() == "metric a b pairs mean a mean b b - a 95 % interval p p Holm note".split()
    assert [line.split()[:4] for line in lines] == [["psnr", "tv", "dps", "8"], ["psnr", "tv", "cg", "5"],
                                                    ["psnr", "dps", "cg", "5"]]  # fmt: skip
    assert lines[1].endswith("n/a     n/a     Wilcoxon's test needs 6 pairs that differ, got 5")
    assert protocol == f"protocol invdiff ({HASH})"
    rows = list(csv.DictReader(io.StringIO(cli("compare", tv, dps, third, "--tsv").out), delimiter="\t"))
    assert list(rows[0]) == ["metric", "region", "a", "b", "pairs", "mean_a", "mean_b", "difference", "low", "high",
                             "interval", "p", "p_holm", "note", "protocol", "protocol_hash"]  # fmt: skip
    assert [row["p"] == "n/a" for row in rows] == [False, True, True] * 2
    assert rows[0]["region"] == "n/a"
    assert rows[0]["interval"] == "bca"


def test_one_table_split_by_method(tv, dps, tmp_path, cli):
    both = tmp_path / "both.tsv"
    both.write_text(tv.read_text() + "".join(dps.read_text().splitlines(keepends=True)[1:]))
    apart = json.loads(cli("compare", tv, dps, "--json").out)
    assert json.loads(cli("compare", both, "--by", "method", "--json").out) == apart


def test_methods_are_named_by_what_tells_them_apart(tmp_path, cli):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def names(*paths):
        return [json.loads(cli("compare", *paths, "--json").out)["comparisons"][0][k] for k in ("a", "b")]

    one, two = (batch(tmp_path / f / "results.tsv", m, 30) for f, m in (("a", "tv"), ("b", "dps")))
    assert names(one, two) == ["tv", "dps"]
    assert names(one, batch(tmp_path / "other.tsv", "tv", 31)) == ["results", "other"]
    batch(two, "tv", 31)
    assert names(one, two) == [str(one), str(two)]


def test_what_evaluate_wrote_is_read(small_volume, measured, tmp_path, cli):
    """A comparison of two reconstructions of one scan: a single pair, so no interval and no test."""
    tables = []
    for solver in ("adjoint", "cg"):
        recon = tmp_path / f"{solver}.nii.gz"
        assert cli("reconstruct", measured, "-o", recon, "--solver", solver).code == 0
        tables.append(tmp_path / f"{solver}.tsv")
        tables[-1].write_text(cli("evaluate", recon, "--reference", small_volume, "--tsv", "--per-slice").out)
    done = cli("compare", *tables, "--scan", "reference", "--metric", "hfen")
    assert done.code == 0
    assert done.err == "".join(
        f"invdiff: left out: rows of slices in {name}: slices of one scan are no independent pairs\n"
        for name in ("adjoint", "cg")
    )
    line = done.out.splitlines()[1]
    assert line.split()[:4] == ["hfen", "adjoint", "cg", "1"]
    assert line.endswith("n/a  n/a     Wilcoxon's test needs 6 pairs that differ, got 1")


def test_other_protocols_are_refused(tv, tmp_path, refused):
    other = batch(tmp_path / "two.tsv", "dps", 32, protocol="fastmri")
    message = refused(2, "compare", tv, other)
    assert "rows of different protocols are not compared: tv was measured by invdiff (" in message
    assert f"{HASH}), dps by fastmri ({PRESETS['fastmri'].hash})" in message


def test_messages(tv, dps, tmp_path, refused):
    assert "a comparison takes two TSVs, or one and --by method" in refused(2, "compare", tv)
    assert "--by splits one TSV, got 2" in refused(2, "compare", tv, dps, "--by", "method")
    assert "one.tsv holds 1 methods by method; a comparison takes two" in refused(2, "compare", tv, "--by", "method")
    assert "one.tsv has no column 'solver'; it has name, input" in refused(2, "compare", tv, "--by", "solver")
    assert "a file is given twice" in refused(2, "compare", tv, tv)
    assert "--confidence lies between 0 and 1, got 95" in refused(2, "compare", tv, dps, "--confidence", 95)
    assert "tv has no column 'psrn'; it has name" in refused(2, "compare", tv, dps, "--metric", "psrn")
    assert "share no scan and frame with finite hfen" in refused(2, "compare", tv, dps, "--metric", "hfen")
    assert "gone.tsv: no such file; check the name" in refused(4, "compare", tv, tmp_path / "gone.tsv")
    assert "cannot read" in refused(4, "compare", tv, tmp_path)
    bad = tmp_path / "bad.tsv"
    bad.write_bytes(b"\xff\xfe")
    assert "bad.tsv is no tab-separated text" in refused(4, "compare", tv, bad)
    bad.write_text(tv.read_text() + "s9\t3\n")
    assert "bad.tsv, line 10 has 2 cells, the first line 11; are they tabs?" in refused(4, "compare", tv, bad)
    bad.write_text("\t".join(HEADER) + "\n")
    assert "bad has no rows" in refused(2, "compare", tv, bad)
