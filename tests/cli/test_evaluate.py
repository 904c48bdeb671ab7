"""`invdiff evaluate`, as a user calls it: rows, regions, gates, JUnit, and what needs no reference."""

import csv
import hashlib
import io
import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from invdiff.metrics import PRESETS, Protocol
from invdiff.metrics.noise_power import noise_power

SHAPE, FRAMES = (24, 20, 12), 2
AFFINE = np.diag([0.5, 0.7, 2, 1])
METRICS = ("psnr", "ssim", "nrmse", "nmse", "hfen")
COLUMNS = [
    "image", "reference", "frame", "slice", "region", *METRICS, "data_residual", "chi2", "data_range", "ssim_mode",
    "window", "mask", "voxels", "protocol", "protocol_hash",
]  # fmt: skip
ALONE = [
    "image", "frame", "data_residual", "chi2", "noise", "nps_mean_frequency", "nps_peak_frequency", "nps_peak", "mask",
    "voxels",
]  # fmt: skip


def nifti(path, data, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def scans(tmp_path):
    """A series of two frames, a reconstruction of it, a mask, and labels 1 and 4 with names beside them."""
    random = np.random.default_rng(0)
    truth = np.cumsum(random.normal(size=(*SHAPE, FRAMES)), 0).astype(np.float32)
    nifti(tmp_path / "truth.nii.gz", truth)
    nifti(tmp_path / "recon.nii.gz", truth + random.normal(size=truth.shape).astype(np.float32))
    mask, labels = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    mask[2:20, 2:18, 1:5] = 1
    labels[3:9, 5:15, 2:8], labels[12:20, 5:15, 2:8] = 1, 4
    nifti(tmp_path / "mask.nii.gz", mask)
    nifti(tmp_path / "labels.nii.gz", labels)
    (tmp_path / "labels.tsv").write_text("label\tname\n1\tliver\n4\tspleen\n9\taorta\n")
    return tmp_path


@pytest.fixture
def told(scans, cli):
    """Rows as JSON."""

    def run(*args):
        done = cli("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--json", *args)
        assert (done.code, done.err) == (0, ""), done.err
        return json.loads(done.out)

    return run


def test_rows_come_frame_by_frame_then_slices_then_regions(told, scans):
    rows = told("--per-slice", "--regions", scans / "labels.nii.gz")
    places = [(row["frame"], row["slice"], row["region"]) for row in rows]
    of_a_frame = [(None, None), *((k, None) for k in range(12)), (None, "liver"), (None, "spleen")]
    assert places == [(n, *place) for n in range(FRAMES) for place in of_a_frame]
    assert all(list(row) == COLUMNS for row in rows)
    assert [row for row in rows if row["slice"] is None and row["region"] is None] == told()


def test_masks_of_rows(told, scans):
    rows = told("--mask", scans / "mask.nii.gz", "--regions", scans / "labels.nii.gz", "--per-slice")[:7]
    assert [row["slice"] for row in rows] == [None, 1, 2, 3, 4, None, None]
    assert [row["voxels"] for row in rows] == [18 * 16 * 4, *[18 * 16] * 4, 6 * 10 * 3, 8 * 10 * 3]
    assert {row["protocol_hash"] for row in rows} == {Protocol(mask=True).hash}
    assert all(row["mask"] for row in rows)


@pytest.mark.parametrize("ssim", [None, "2d", "3d"])
@pytest.mark.parametrize("name", PRESETS)
def test_protocols(name, ssim, told, scans):
    rows = told("--protocol", name, *(("--ssim", ssim) if ssim else ()))
    want = replace(PRESETS[name], ssim=ssim) if ssim else PRESETS[name]
    x, truth = (nibabel.load(scans / f"{f}.nii.gz").get_fdata() for f in ("recon", "truth"))
    for row in rows:
        assert (row["protocol"], row["protocol_hash"], row["ssim_mode"]) == (name, want.hash, want.ssim)
        if want.ssim == "3d" and name == "skimage":
            pair = truth[..., row["frame"]], x[..., row["frame"]]
            assert row["ssim"] == pytest.approx(structural_similarity(*pair, data_range=np.ptp(pair[0])), abs=1e-6)


def test_tsv_has_the_same_rows(told, scans, cli):
    args = ("--regions", scans / "labels.nii.gz", "--per-slice")
    done = cli("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--tsv", *args)
    rows = list(csv.DictReader(io.StringIO(done.out), delimiter="\t"))
    assert list(rows[0]) == COLUMNS
    for text, row in zip(rows, told(*args), strict=True):
        assert text == {k: "n/a" if v is None else str(v) for k, v in row.items()}


def test_infinities(scans, cli):
    truth = scans / "truth.nii.gz"
    assert [row["psnr"] for row in json.loads(cli("evaluate", truth, "--reference", truth, "--json").out)] == [None] * 2
    rows = csv.DictReader(io.StringIO(cli("evaluate", truth, "--reference", truth, "--tsv").out), delimiter="\t")
    assert [row["psnr"] for row in rows] == ["inf"] * 2


def test_text_has_means_over_frames(told, scans, cli):
    args = ("--regions", scans / "labels.nii.gz", "--per-slice")
    text = cli("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", *args).out.splitlines()
    rows = told(*args)
    assert len(text) == len(rows) + 3
    mean, liver, spleen = text[-3:]
    psnr = np.mean([row["psnr"] for row in rows if row["slice"] is None and row["region"] is None])
    assert mean.startswith(f"mean over 2 frames  psnr {psnr:.4f}  ssim ")
    assert liver.startswith("mean over 2 frames  region liver  psnr ")
    assert spleen.startswith("mean over 2 frames  region spleen  psnr ")
    assert text[0].startswith("image recon.nii.gz  reference truth.nii.gz  frame 0  psnr ")
    assert text[1].startswith("image recon.nii.gz  reference truth.nii.gz  frame 0  slice 0  psnr ")


NAMES = {
    "no file": (None, ["1", "4"]),
    "without a header line": ("1\tliver\n4\tspleen\n", ["liver", "spleen"]),
    "as BIDS has it": ("index\tname\tcolor\n4\tspleen\t#fff\n", ["1", "spleen"]),
    "another order": ("name\tlabel\nleft lung\t1\n", ["left lung", "4"]),
}


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("beside", [True, False])
def test_names_of_regions(case, beside, told, scans):
    text, want = NAMES[case]
    (scans / "labels.tsv").unlink()
    path = scans / ("labels.tsv" if beside else "names.tsv")
    if text:
        path.write_text(text)
    extra = ("--region-names", path) if text and not beside else ()
    assert [row["region"] for row in told("--regions", scans / "labels.nii.gz", *extra)[1:3]] == want


BAD_NAMES = {
    "id\tstructure\n1\tliver\n": "names.tsv has the columns id, structure; names of regions are in label and name",
    "label\tname\none\tliver\n": "names.tsv: 'one' is no label; labels are whole numbers",
    "1\tliver\n4\tliver\n": "names.tsv: label 4 or the name 'liver' comes twice",
    "1\tliver\n1\tspleen\n": "names.tsv: label 1 or the name 'spleen' comes twice",
    "1\tliver\n4 spleen\n": "names.tsv, line 2 has 1 cells, the first line 2; are they tabs?",
    "": "names.tsv is no tab-separated text",
}


@pytest.mark.parametrize("text", BAD_NAMES)
def test_bad_names_of_regions(text, scans, refused):
    (scans / "names.tsv").write_text(text)
    args = (scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--regions", scans / "labels.nii.gz")
    assert BAD_NAMES[text] in refused(4, "evaluate", *args, "--region-names", scans / "names.tsv")


def test_bad_regions(scans, refused):
    args = ("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz")
    assert "gone.tsv: no such file" in refused(
        4, *args, "--regions", scans / "labels.nii.gz", "--region-names", scans / "gone.tsv"
    )
    message = refused(4, *args, "--regions", scans / "truth.nii.gz")
    assert "truth.nii.gz has 2 frames; masks and regions are one volume for all frames" in message
    assert "truth.nii.gz has 2 frames" in refused(4, *args, "--mask", scans / "truth.nii.gz")
    half = nifti(scans / "half.nii", np.full(SHAPE, 0.5, np.float32))
    assert "labels are whole numbers, some of these are not" in refused(4, *args, "--regions", half)
    other = nifti(scans / "other.nii", np.ones((3, 3, 3), np.float32))
    assert "the labels have shape (3, 3, 3), the reference (24, 20, 12)" in refused(4, *args, "--regions", other)


def test_volumes_that_lie_elsewhere_are_told(scans, cli):
    mask = nifti(scans / "moved.nii", np.ones(SHAPE, np.uint8), np.diag([0.5, 0.7, 3, 1]))
    done = cli("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--mask", mask, "--json")
    assert done.code == 0
    assert done.err == (
        "invdiff: warning: recon.nii.gz and moved.nii lie in different places (affines differ by 1); voxels are "
        "compared by their index\n"
    )
    assert len(json.loads(done.out)) == 2


def test_every_row_that_falls_short_is_told(told, scans, cli):
    rows = told("--regions", scans / "labels.nii.gz")
    level = sorted(row["hfen"] for row in rows)[3]
    short = [row for row in rows if row["hfen"] > level]
    done = cli("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--regions",
               scans / "labels.nii.gz", "--fail-under", f"hfen={level}", "--fail-under", "nmse=9")  # fmt: skip
    assert done.code == 8
    assert len(done.out.splitlines()) == len(rows) + 3  # the figures are still there
    where = [f"frame {row['frame']}" + (f" region {row['region']}" if row["region"] else "") for row in short]
    failures = [f"{w}: hfen is {r['hfen']:.4f}, the gate is {level:g}" for w, r in zip(where, short, strict=True)]
    assert len(failures) == 2
    assert done.err == f"invdiff: GateError: {'; '.join(failures)}\n"


def test_gates_hold_what_lies_on_them(told, scans, cli):
    rows = told()
    args = ("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz")
    worst = {m: (min if m in ("psnr", "ssim") else max)(row[m] for row in rows) for m in METRICS}
    assert cli(*args, *(f"--fail-under={m}={v!r}" for m, v in worst.items())).code == 0
    beyond = {m: v + (1e-9 if m in ("psnr", "ssim") else -1e-9) for m, v in worst.items()}
    done = cli(*args, *(f"--fail-under={m}={v!r}" for m, v in beyond.items()))
    assert done.code == 8
    assert all(done.err.count(f": {m} is {v:.4f}, the gate is ") == 1 for m, v in worst.items())


def test_what_could_not_be_measured_falls_short(scans, cli):
    truth = nibabel.load(scans / "truth.nii.gz").get_fdata().astype(np.float32)
    truth[..., 5, :] = 0
    zero = nifti(scans / "zero.nii", truth)
    done = cli("evaluate", zero, "--reference", zero, "--per-slice", "--fail-under", "nrmse=1", "--tsv")
    assert done.code == 8
    told = [f"frame {n} slice 5: nrmse is n/a, the gate is 1" for n in range(2)]
    assert done.err == f"invdiff: GateError: {'; '.join(told)}\n"
    rows = list(csv.DictReader(io.StringIO(done.out), delimiter="\t"))
    assert [row["nrmse"] for row in rows if row["slice"] == "5"] == ["n/a", "n/a"]


def test_junit(told, scans, cli):
    path, (first, second) = scans / "gates.xml", told()
    level = (first["psnr"] + second["psnr"]) / 2
    args = ("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--junit", path)
    done = cli(*args, "--fail-under", f"psnr={level}", "--fail-under", "ssim=0.1")
    assert done.code == 8
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.attrib) == ("testsuites", {"tests": "4", "failures": "1", "errors": "0"})
    (suite,) = root
    assert suite.attrib == {"name": "invdiff evaluate", "tests": "4", "failures": "1", "errors": "0"}
    assert suite.find("properties/property").attrib == {"name": "protocol", "value": f"invdiff ({Protocol().hash})"}
    cases = suite.findall("testcase")
    rules = [f"psnr >= {level:g}", "ssim >= 0.1"]
    assert [case.get("name") for case in cases] == [f"frame {n}: {rule}" for n in range(2) for rule in rules]
    assert {case.get("classname") for case in cases} == {"recon.nii.gz"}
    (failure,) = suite.iter("failure")
    assert done.err == f"invdiff: GateError: {failure.get('message')}\n"
    assert failure.get("type") == "GateError"
    assert failure in list(cases[0 if first["psnr"] < level else 2])


def test_junit_of_what_passes_and_existing_files(scans, cli, refused):
    path = scans / "gates.xml"
    args = ("evaluate", scans / "recon.nii.gz", "--reference", scans / "truth.nii.gz", "--junit", path)
    assert cli(*args, "--fail-under", "nrmse=9", "--fail-under", "psnr=1").code == 0
    root = ElementTree.parse(path).getroot()
    assert (root.get("tests"), root.get("failures")) == ("4", "0")
    assert next(root.iter("testcase")).get("name") == "frame 0: nrmse <= 9"
    message = refused(2, *args, "--fail-under", "psnr=99")
    assert "gates.xml exists; pass --force to replace it" in message
    assert cli(*args, "--fail-under", "psnr=99", "--force").code == 8
    assert ElementTree.parse(path).getroot().get("failures") == "2"
    assert "folder" in refused(4, *args[:-1], scans / "no" / "such" / "folder.xml", "--fail-under", "psnr=9")


USAGE = {
    "--junit": ("--junit has a test case per row and gate; give --fail-under, e.g. psnr=30", ["g.xml"], True),
    "--region-names": ("--region-names names the labels of --regions; give both", ["names.tsv"], True),
    "--per-slice": ("--per-slice: nothing to compare with; give --reference", [], False),
    "--regions": ("--regions: nothing to compare with; give --reference", ["labels.nii.gz"], False),
    "--ssim": ("--ssim: nothing to compare with; give --reference", ["3d"], False),
    "--protocol": ("--protocol: nothing to compare with; give --reference", ["fastmri"], False),
    "--fail-under": ("--fail-under psnr: nothing to compare with; give --reference", ["psnr=3"], False),
}


@pytest.mark.parametrize("flag", USAGE)
def test_usage(flag, scans, refused):
    message, value, with_reference = USAGE[flag]
    reference = ("--reference", scans / "truth.nii.gz") if with_reference else ()
    assert message in refused(2, "evaluate", scans / "recon.nii.gz", *reference, flag, *value)


def test_gates_that_do_not_exist(refused, scans):
    names = "psnr, ssim, nrmse, nmse, hfen, data_residual"
    for pair in ("mse=1", "psnr=x", "psnr=nan"):
        message = refused(2, "evaluate", scans / "recon.nii.gz", "--fail-under", pair)
        assert f"--fail-under takes one of {names} and a number, got {pair}" in message


def sidecar(scans, **more):
    fit = {"relative_residual": 0.031, "chi2": 1.02}
    (scans / "recon.json").write_text(json.dumps({"data_fit": {"mean": fit, "first_sample": fit}} | more))


def test_the_data_fit_of_the_run_without_a_reference_and_with_one(told, scans, cli):
    checksum = hashlib.sha256((scans / "recon.nii.gz").read_bytes()).hexdigest()
    sidecar(scans, output_sha256={"recon.nii.gz": checksum})
    done = cli("evaluate", scans / "recon.nii.gz", "--json")
    assert (done.code, done.err) == (0, "")
    for n, row in enumerate(json.loads(done.out)):
        assert list(row) == ALONE
        assert (row["frame"], row["data_residual"], row["chi2"], row["noise"]) == (n, 0.031, 1.02, None)
    rows = told("--regions", scans / "labels.nii.gz")
    assert [row["chi2"] for row in rows] == [1.02, None, None] * 2
    assert cli("evaluate", scans / "recon.nii.gz", "--fail-under", "data_residual=0.04").code == 0
    done = cli("evaluate", scans / "recon.nii.gz", "--fail-under", "data_residual=0.03")
    assert done.code == 8
    assert "frame 0: data_residual is 0.0310, the gate is 0.03; frame 1: " in done.err
    regions = ("--reference", scans / "truth.nii.gz", "--regions", scans / "labels.nii.gz")
    assert cli("evaluate", scans / "recon.nii.gz", *regions, "--fail-under", "data_residual=0.04").code == 0


def test_no_data_fit_is_told(scans, cli):
    done = cli("evaluate", scans / "recon.nii.gz", "--tsv")
    assert done.code == 0
    assert done.err == (
        "invdiff: no recon.json beside recon.nii.gz: how it fits its measurement is not known; data_residual and chi2 "
        "are n/a\n"
    )
    header, first, second = (line.split("\t") for line in done.out.splitlines())
    assert header == ALONE
    assert first == ["recon.nii.gz", "0", *["n/a"] * 6, "False", "n/a"]
    assert second[1] == "1"
    sidecar(scans, output_sha256={"recon.nii.gz": "0"})
    done = cli("evaluate", scans / "recon.nii.gz")
    assert "recon.json was written for another recon.nii.gz (checksum differs); data_residual and chi2 are" in done.err
    assert done.out.startswith("image recon.nii.gz  frame 0  data_residual n/a  chi2 n/a  mask False\n")
    assert cli("evaluate", scans / "recon.nii.gz", "--fail-under", "data_residual=9").code == 8


def test_the_noise_of_a_flat_region(scans, cli):
    noise = np.random.default_rng(1).normal(100, 7, (40, 36, 5)).astype(np.float32)
    region = np.zeros(noise.shape, np.uint8)
    region[2:34, 3:35] = 1
    image, mask = nifti(scans / "flat.nii.gz", noise), nifti(scans / "region.nii.gz", region)
    done = cli("evaluate", image, "--mask", mask, "--json")
    (row,) = json.loads(done.out)
    want = noise_power(noise, region != 0, (0.5, 0.7))
    assert row["noise"] == pytest.approx(want.noise, rel=1e-6)
    assert row["noise"] == pytest.approx(7, rel=0.03)
    assert row["nps_mean_frequency"] == pytest.approx(want.mean_frequency, rel=1e-6)
    assert row["nps_peak_frequency"] == pytest.approx(want.peak_frequency, rel=1e-6)
    assert row["nps_peak"] == pytest.approx(want.peak, rel=1e-6)
    assert row["noise_power"]["power"] == pytest.approx(want.power, rel=1e-6)
    assert row["noise_power"]["frequency"] == pytest.approx(want.frequency, rel=1e-6)
    assert (row["mask"], row["voxels"], row["noise_power"]["side"]) == (True, 32 * 32 * 5, 32)
    (text,) = csv.DictReader(io.StringIO(cli("evaluate", image, "--mask", mask, "--tsv").out), delimiter="\t")
    assert list(text) == ALONE
    assert float(text["noise"]) == row["noise"]
    assert f"  noise {row['noise']:.4f}  " in cli("evaluate", image, "--mask", mask).out


def test_a_region_too_small_for_a_spectrum(scans, refused):
    small = np.zeros(SHAPE, np.uint8)
    small[:10, :10] = 1
    message = refused(4, "evaluate", scans / "recon.nii.gz", "--mask", nifti(scans / "small.nii", small))
    assert "no slice of the mask holds a square of 16 x 16 voxels" in message


def test_a_run_is_evaluated_without_a_reference(y, tmp_path, cli):
    """The figures are those of the sidecar that `reconstruct` wrote."""
    recon = tmp_path / "r.nii.gz"
    assert cli("reconstruct", y, "-o", recon, "--solver", "cg").code == 0
    (row,) = json.loads(cli("evaluate", recon, "--json").out)
    fit = json.loads((tmp_path / "r.json").read_text())["data_fit"]["mean"]
    assert (row["data_residual"], row["chi2"]) == (fit["relative_residual"], fit["chi2"])
    assert math.isfinite(row["chi2"])
