"""The demo, for real: the whole scan, the shipped prior, its promises."""

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "invdiff_cli", "demo", "-o", folder, "--json"]
    return folder, subprocess.run(command, capture_output=True, text=True, check=False)


def test_demo_keeps_its_promises(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"psnr", "ssim", "seconds"}
    assert set(result["psnr"]) == set(result["ssim"]) == {"zero_filled", "tv", "reconstruction"}
    assert result["psnr"]["reconstruction"] >= result["psnr"]["zero_filled"] + 3
    assert result["ssim"]["reconstruction"] > result["ssim"]["tv"] > result["ssim"]["zero_filled"]
    facts = json.loads((folder / "recon.json").read_text())
    assert facts["network_calls"] <= 300
    assert facts["network_batch"] == 8
    # Above 1: the prior takes off noise of the scan itself, which the simulated noise does not account for.
    assert 0.8 < facts["data_fit"]["first_sample"]["chi2"] < 1.3


def test_demo_writes_what_it_says(demo, epi_path):
    folder, _ = demo
    volumes = {f"{n}.nii.gz" for n in ("truth", "zero_filled", "tv", "recon", "recon_std")}
    assert {p.name for p in folder.iterdir()} == volumes | {"recon.json", "demo.png"}
    source = nibabel.load(epi_path)
    for name in volumes:
        image = nibabel.load(folder / name)
        assert image.shape == (128, 96, 24)
        np.testing.assert_array_equal(image.affine, source.affine)
    error = np.abs(
        nibabel.load(folder / "recon.nii.gz").get_fdata() - nibabel.load(folder / "truth.nii.gz").get_fdata()
    )
    spread = nibabel.load(folder / "recon_std.nii.gz").get_fdata()
    # The uncertainty knows where the errors are, and is of their size.
    assert np.corrcoef(error.ravel(), spread.ravel())[0, 1] > 0.5
    assert 0.5 < np.sqrt((spread**2).mean() / (error**2).mean()) < 1.5


def test_demo_does_not_overwrite_unasked(demo):
    folder, _ = demo
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    command = [sys.executable, "-m", "invdiff_cli", "demo", "-o", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "exists; pass --force" in done.stderr
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
