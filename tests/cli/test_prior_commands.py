"""`invdiff prior` and `invdiff sample`, as a user meets them."""

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from invdiff.files import sha256
from invdiff.networks.unet import UNet
from invdiff.priors import checkpoints


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("invdiff.library.folder", lambda: tmp_path / "data" / "priors")
    return tmp_path / "data" / "priors"


@pytest.fixture
def knee(tmp_path):
    torch.manual_seed(0)
    net = UNet(channels=(64,), blocks=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    path = tmp_path / "file.safetensors"
    scans = [{"file": "a.nii", "sha256": "0" * 64}, {"file": "b.nii", "sha256": COLIN}]
    card = checkpoints.Card(
        "knee", net.config, 0.2, 0.3, units={"window": [-10.0, 90.0], "range": [-1.0, 1.0]}, spacing=[1.0, 4.0],
        scans=scans, quality={"a scan": {"mri4": {"psnr": 31.5}}}, licence="CC0-1.0",
    )  # fmt: skip
    checkpoints.save(path, net, card)
    return path


COLIN = "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309"


def test_list_install_info_remove(cli, knee, home):
    shipped = json.loads(cli("prior", "list", "--json").out)
    assert {"brain-mr"} <= {row["name"] for row in shipped}
    assert {row["where"] for row in shipped} == {"ships"}
    done = cli("prior", "install", knee, "--sha256", sha256(knee))
    assert (done.code, done.out, done.err) == (0, "knee\n", "")
    (mine,) = (row for row in json.loads(cli("prior", "list", "--json").out) if row["where"] == "installed")
    assert (mine["name"], mine["channels"], mine["sha256"]) == ("knee", 1, sha256(knee))
    (line,) = (text for text in cli("prior", "list").out.splitlines() if text.startswith("knee "))
    assert line.split("  ")[0] == "knee"
    for word in ("window -10 to 90", "1 to 4 mm", "installed", " MB"):
        assert word in line
    for name in ("knee", str(knee)):
        card = json.loads(cli("prior", "info", name, "--json").out)
        assert (card["name"], card["sha256"], card["bytes"]) == ("knee", sha256(knee), knee.stat().st_size)
    done = cli("prior", "remove", "knee")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert list(home.iterdir()) == []


def test_info_says_what_a_stranger_must_know(cli, knee):
    text = cli("prior", "info", knee).out
    for fact in (
        "knee (prior)", "window -10 to 90, stored values -10 to 90 as -1 to 1", "noise levels: 0.002 to 10",
        "planes: all", "1 to 4 mm", "unet, predicts edm", "CC0-1.0", "Research use only.", sha256(knee),
        "a.nii: source not stated", "b.nii: T1, one man", "mricron-data (Debian), ch2.nii.gz; BSD-3-Clause",
        "mri4: psnr 31.5", " MB",
    ):  # fmt: skip
        assert fact in text
    brain = cli("prior", "info", "brain-mr").out
    assert "magnitude, zero to the 99.9th percentile as 0 to 1" in brain
    assert "source not stated" not in brain
    assert cli("info", "brain-mr").out.splitlines()[:6] == brain.splitlines()[:6]


def test_refusals(knee, refused, cli, tmp_path, home):
    assert "no prior 'kne'; those that ship: " in refused(5, "prior", "info", "kne")
    assert "no prior 'knee' is installed" in refused(5, "prior", "remove", "knee")
    assert "brain-mr ships with invdiff" in refused(2, "prior", "remove", "brain-mr")
    assert "a prior cannot be called '../x'" in refused(2, "prior", "remove", "../x")
    assert "no prior at" in refused(5, "prior", "install", tmp_path / "none.safetensors")
    assert "not " + "0" * 64 in refused(5, "prior", "install", knee, "--sha256", "0" * 64)
    assert "64 hexadecimal digits, got 'abc'" in refused(2, "prior", "install", knee, "--sha256", "abc")
    cli("prior", "install", knee)
    assert "pass --force to replace it" in refused(2, "prior", "install", knee)
    assert cli("prior", "install", knee, "--force").out == "knee\n"
    weights = home / "knee.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    for args in (("prior", "info", "knee"), ("sample", "knee", "-o", tmp_path / "s.png")):
        assert "the installed prior knee is damaged (its checksum is " in refused(5, *args)
    knee.write_bytes(knee.read_bytes()[:-9])
    assert "may be truncated" in refused(5, "prior", "install", knee, "--force")


def test_an_installed_prior_reconstructs(cli, knee, small_volume, tmp_path):
    y = tmp_path / "y.h5"
    assert cli("simulate", "denoise", small_volume, "-o", y).code == 0
    cli("prior", "install", knee)
    output = tmp_path / "r.nii.gz"
    done = cli("reconstruct", y, "-o", output, "--prior", "knee", "--steps", 2, "--samples", 1)
    assert done.code == 0, done.err
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["prior"]["sha256"] == sha256(knee)


def test_check_passes_and_fails(cli, small_volume, tmp_path):
    done = cli("prior", "check", "brain-mr", small_volume)
    assert (done.code, done.err) == (0, ""), done
    assert "nothing is wrong" in done.out
    image = nibabel.load(small_volume)
    coarse = tmp_path / "coarse.nii.gz"
    nibabel.save(nibabel.Nifti1Image(image.get_fdata().astype(np.float32), np.diag([20, 20, 20, 1])), coarse)
    done = cli("prior", "check", "brain-mr", coarse, "--json")
    assert done.code == 8
    report = json.loads(done.out)
    assert [f["kind"] for f in report["findings"]] == ["spacing"]
    assert not report["ok"]
    assert len(report["levels"]) == 5
    assert done.err == f"invdiff: GateError: brain-mr does not fit {coarse}: spacing; see the report\n"


def test_check_refusals(refused, small_volume, tmp_path):
    assert "no such file" in refused(4, "prior", "check", "brain-mr", tmp_path / "none.nii")
    assert "no prior 'brian'" in refused(5, "prior", "check", "brian", small_volume)
    assert "need 2 channels" in refused(5, "prior", "check", "brain-mr", small_volume, "--complex")


def test_sample(cli, refused, knee, tmp_path):
    how = ("--samples", 3, "--size", 24, 16, "--steps", 3, "--dtype", "float32")
    for name in ("a.nii.gz", "b.nii.gz", "c.png"):
        done = cli("sample", knee, "-o", tmp_path / name, *how)
        assert (done.code, done.out, done.err) == (0, "", ""), done
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.shape == (24, 16, 3)
    np.testing.assert_allclose(image.header.get_zooms(), 2.0)  # the geometric middle of 1 and 4 mm
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["intended_use"] == "research only"
    assert facts["seeds"] == [0, 1, 2]
    assert facts["output_sha256"] == {"a.nii.gz": sha256(tmp_path / "a.nii.gz")}
    with Image.open(tmp_path / "c.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    cli("sample", knee, "-o", tmp_path / "d.nii.gz", *how, "--seed", 2)
    other = nibabel.load(tmp_path / "d.nii.gz").get_fdata()
    np.testing.assert_array_equal(other[..., 0], image.get_fdata()[..., 2])
    assert "exists; pass --force" in refused(2, "sample", knee, "-o", tmp_path / "c.png", *how)
    assert "samples are written as .png, .nii or .nii.gz" in refused(2, "sample", knee, "-o", tmp_path / "s.jpg")
    assert "at least 1 x 1" in refused(2, "sample", knee, "-o", tmp_path / "s.png", "--size", 0, 8)


@pytest.mark.parametrize("command", ["list", "info", "install", "remove", "check", "convert"])
def test_help_has_an_example(cli, command):
    done = cli("prior", command, "--help")
    assert done.code == 0
    assert f"Example: invdiff prior {command}" in done.out


PROBE = """
import sys
from invdiff_cli import main
sys.argv = ["invdiff", *sys.argv[1:]]
try:
    main()
finally:
    print("HEAVY", *(m for m in ("torch", "scipy", "nibabel", "numpy") if m in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("args", [("prior", "--help"), ("prior", "list"), ("sample", "--help")], ids=" ".join)
def test_instant(args):
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "HEAVY"
