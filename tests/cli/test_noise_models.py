"""Counts and magnitudes from simulation to reconstruction."""

import json

import pytest

from invdiff import measurements


@pytest.mark.parametrize("model", ["riciannoise", "noncentralchinoise", "poissonnoise"])
def test_solvers_that_need_no_gaussian_noise_run(model, small_volume, tmp_path, cli):
    y, recon = tmp_path / "y.h5", tmp_path / "r.nii.gz"
    assert cli("simulate", "denoise", small_volume, "-o", y, "--noise", "2%", "--noise-model", model).code == 0
    assert type(measurements.load(y).noise).__name__.lower() == model
    done = cli("reconstruct", y, "-o", recon, "--solver", "dps", "--steps", 2, "--samples", 1)
    assert (done.code, done.out) == (0, ""), done.err
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["noise"]["kind"] == model
    assert facts["data_fit"]["mean"]["chi2"] is None
    refused = cli("reconstruct", y, "-o", tmp_path / "x.nii.gz", "--steps", 2)
    assert refused.code == 2
    assert "DiffPIR needs a GaussianNoise as its noise" in refused.err


def test_refusals(small_volume, tmp_path, cli):
    y = tmp_path / "y.h5"
    done = cli("simulate", "mri", small_volume, "-o", y, "--noise-model", "riciannoise")
    assert (done.code, y.exists()) == (2, False)
    assert "RicianNoise is a law of real numbers, MRI measures complex ones; use gaussiannoise" in done.err
    done = cli("simulate", "denoise", small_volume, "-o", y, "--noise-model", "rician")
    assert "no noise 'rician'; did you mean 'riciannoise'?" in done.err


def test_info_lists_them(cli):
    assert "riciannoise" in cli("info", "noise").out
    assert "Receive coils" in cli("info", "noncentralchinoise").out
