"""Radial and spiral scans from the command line."""

import json

import nibabel
import numpy as np
import pytest


def volume(path):
    return np.asarray(nibabel.load(path).dataobj, dtype=float)


def test_radial_from_simulation_to_samples(cli, small_volume, tmp_path):
    y = tmp_path / "y.h5"
    done = cli("simulate", "radial", small_volume, "-o", y, "--acceleration", 2, "--coils", 3, "--noise", 0.005)
    assert done.code == 0, done.err
    want, error = volume(small_volume), {}
    for solver, options in {"direct": [], "cg": [], "diffpir": ["--steps", 2, "--samples", 1]}.items():
        out = tmp_path / f"{solver}.nii.gz"
        done = cli("reconstruct", y, "-o", out, "--solver", solver, *options)
        assert done.code == 0, done.err
        error[solver] = np.linalg.norm(volume(out) - want) / np.linalg.norm(want)
    assert error["cg"] < 0.6 * error["direct"]
    assert error["cg"] < 0.03
    assert error["diffpir"] < 0.15
    facts = json.loads((tmp_path / "diffpir.json").read_text())
    assert facts["prior"]["name"] == "brain-mr-complex"
    assert facts["acquisition"]["coils"] == 3


@pytest.mark.parametrize(
    "settings", [("radial", "--dimension", "stack", "--spokes", 24), ("spiral", "--dimension", "stack")]
)
def test_volumes_by_conjugate_gradients(cli, small_volume, tmp_path, settings):
    y, out = tmp_path / "y.h5", tmp_path / "x.nii.gz"
    name, *options = settings
    assert cli("simulate", name, small_volume, "-o", y, *options, "--noise", 0.005).code == 0
    done = cli("reconstruct", y, "-o", out, "--solver", "cg", "--set", "iterations=5")
    assert done.code == 0, done.err
    want = volume(small_volume)
    assert np.linalg.norm(volume(out) - want) < 0.15 * np.linalg.norm(want)


def test_trajectory_from_a_file(cli, refused, small_volume, tmp_path):
    np.save(tmp_path / "k.npy", np.zeros((5, 2)))
    assert cli("simulate", "trajectory", small_volume, "-o", tmp_path / "y.h5", "--file", tmp_path / "k.npy").code == 0
    message = refused(2, "simulate", "trajectory", small_volume, "-o", tmp_path / "z.h5")
    assert "no trajectory given: name a .npy file of (samples, 2) or (samples, 3), --file k.npy" in message
    message = refused(4, "simulate", "trajectory", small_volume, "-o", tmp_path / "z.h5", "--file", tmp_path / "no.npy")
    assert "no such file; check the name" in message
