"""From a NIfTI file to a measurement, a reconstruction, its records and its figures of merit."""

import csv
import hashlib
import io
import json
import math

import h5py
import nibabel
import numpy as np
import pytest
import torch
import yaml

from invdiff import __version__, volumes
from invdiff.priors import checkpoints

ACQUISITIONS = ("mri", "radial", "spiral", "ct", "blur", "motionblur", "varyingblur", "lowres", "inpaint", "denoise")
QUICK = ("--steps", 2, "--samples", 2)


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_place(path, source):
    """Affine, both forms, their codes, zooms and units: bit for bit."""
    got, want = nibabel.load(path), nibabel.load(source)
    assert got.shape == want.shape
    assert got.affine.tobytes() == want.affine.tobytes()
    kept = ["sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"]
    for name in [*kept, "qoffset_x", "qoffset_y", "qoffset_z", "pixdim", "xyzt_units", "intent_code", "descrip"]:
        assert np.array(got.header[name]).tobytes() == np.array(want.header[name]).tobytes(), name
    return np.asarray(got.dataobj)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_every_acquisition_from_scan_to_figures(acquisition, small_volume, tmp_path, cli):
    y, recon, plain = tmp_path / "y.h5", tmp_path / "recon.nii.gz", tmp_path / "cg.nii"
    assert cli("simulate", acquisition, small_volume, "-o", y, "--noise", "1%", "--seed", 3).code == 0
    done = cli("reconstruct", y, "-o", recon, *QUICK)
    assert (done.code, done.out) == (0, ""), done.err
    done = cli("reconstruct", y, "-o", plain, "--solver", "cg")
    assert (done.code, done.out) == (0, ""), done.err

    written = {"recon.nii.gz", "recon_std.nii.gz", "recon.json", "recon.run.yaml", "cg.nii", "cg.json", "cg.run.yaml"}
    assert {p.name for p in tmp_path.iterdir()} == written | {"y.h5"}
    x, std, by_cg = (same_place(p, small_volume) for p in (recon, tmp_path / "recon_std.nii.gz", plain))
    assert np.isfinite(x).all()
    assert np.isfinite(by_cg).all()
    assert (std >= 0).all()
    assert std.max() > 0

    done = cli("evaluate", recon, "--reference", small_volume, "--json")
    assert done.code == 0
    (row,) = json.loads(done.out)
    assert 5 < row["psnr"] < 60
    assert {"image", "reference", "frame", "psnr", "ssim", "nrmse", "data_range"} <= set(row)


def test_the_record_holds_what_was_done(measured, small_volume, tmp_path, program):
    run = program("reconstruct", measured, "-o", "recon.nii.gz", *QUICK, "--seed", 5, "--set", "zeta=0.5")
    assert (run.code, run.out) == (0, "")
    facts = json.loads((tmp_path / "recon.json").read_text())
    assert facts["command"] == "reconstruct"
    assert (
        facts["command_line"] == f"reconstruct {measured} -o recon.nii.gz --steps 2 --samples 2 --seed 5 --set zeta=0.5"
    )
    assert facts["solver"] == {
        "kind": "diffpir", "steps": 2, "schedule": "karras", "sigma_max": 4.0, "sigma_min": 0.007, "shift": 1.0,
        "ladder": None, "parity": "safe", "sampler": None, "zeta": 0.5, "tau": None, "churn": 0.0, "lam": 1.0,
        "cg_iterations": 40,
    }  # fmt: skip
    assert facts["acquisition"] == {
        "kind": "mri", "acceleration": 4.0, "center_fraction": 0.08, "pattern": "random", "image": "complex",
        "phase": 1.0, "partial_fourier": 1.0, "dimension": "2d", "coils": 1, "coil_maps": "true", "phase_file": None,
        "field_map": None, "echo_time": 20.0, "file_axis": 2,
    }  # fmt: skip
    assert facts["gives"] == "mean of 2 posterior samples"
    assert run.err.splitlines() == [f"invdiff: warning: {w}" for w in facts["warnings"]]
    assert facts["seeds"] == [5, 6]
    assert facts["prior"]["name"] == "brain-mr-complex"
    assert facts["prior"]["sha256"] == sha(checkpoints.find("brain-mr-complex"))
    assert facts["prior"]["dtype"] in ("float32", "bfloat16")
    assert facts["nfe_per_sample"] == 2
    assert facts["network_calls"] == 2  # 2 samples x 4 slices in one chunk of 8, two levels
    with h5py.File(measured) as f:
        assert facts["noise"] == json.loads(f.attrs["noise"])
        assert facts["noise"]["sigma"] > 0
    for fit in facts["data_fit"].values():
        assert 0 < fit["relative_residual"] < 1
        assert fit["chi2"] > 0
    assert all(s > 0 for s in facts["seconds"].values())
    assert facts["machine"]["peak_memory_mib"] > 50
    assert facts["machine"]["threads"] >= 1
    assert facts["versions"]["invdiff"] == __version__
    assert (
        facts["versions"]["torch"] == torch.__version__.split("+")[0] or facts["versions"]["torch"] == torch.__version__
    )
    assert {"python", "numpy", "scipy", "nibabel"} <= set(facts["versions"])
    assert facts["input"] == {"file": "y.h5", "sha256": sha(measured)}
    assert facts["measurement"]["source_sha256"] == sha(small_volume)
    outputs = {p.name: sha(p) for p in tmp_path.glob("*.nii.gz")}
    assert facts["output_sha256"] == outputs
    assert set(outputs) == {"recon.nii.gz", "recon_std.nii.gz"}
    assert facts["intended_use"] == "research only"
    kept = yaml.safe_load((tmp_path / "recon.run.yaml").read_text())
    assert kept["settings"] == {k: v for k, v in facts["solver"].items() if k != "kind"}, "resolved, not as typed"
    assert kept["prior_sha256"] == facts["prior"]["sha256"]


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        (("--solver", "adjoint"), "fits the measurement worse than its noise explains (chi2 = "),
        (("--solver", "cg", "--set", "iterations=300"), "follows the noise of the measurement (chi2 = "),
    ],
)
def test_a_misfit_is_said_in_words(solver, words, small_volume, tmp_path, cli):
    y = tmp_path / "y.h5"
    cli("simulate", "blur", small_volume, "-o", y, "--noise", "1%")
    done = cli("reconstruct", y, "-o", tmp_path / "x.nii", *solver)
    (warning,) = json.loads((tmp_path / "x.json").read_text())["warnings"]
    assert words in warning
    assert done.err.splitlines()[-1] == f"invdiff: warning: {warning}"


def test_the_run_file_repeats_the_result_bit_for_bit(y, tmp_path, program):
    first = program("reconstruct", "y.h5", "-o", "recon.nii.gz", *QUICK, "--seed", 2, "--save-samples", "--independent")
    assert first.code == 0, first.err
    (tmp_path / "elsewhere").mkdir()
    again = program("reconstruct", "--config", "recon.run.yaml", "-o", "elsewhere/again.nii.gz")
    assert (again.code, again.out, again.err) == (0, "", first.err)
    for ending in (".nii.gz", "_std.nii.gz", "_sample000.nii.gz", "_sample001.nii.gz"):
        assert sha(tmp_path / f"recon{ending}") == sha(tmp_path / "elsewhere" / f"again{ending}")
    third = program("reconstruct", "--config", "elsewhere/again.run.yaml", "-o", "third.nii.gz")
    assert third.code == 0, third.err
    assert sha(tmp_path / "third.nii.gz") == sha(tmp_path / "recon.nii.gz")


def test_samples_are_written_on_request_and_make_the_mean_and_spread(y, tmp_path, cli):
    recon = tmp_path / "recon.nii.gz"
    assert cli("reconstruct", y, "-o", recon, "--steps", 2, "--samples", 3, "--save-samples").code == 0
    samples = torch.stack([volumes.load(tmp_path / f"recon_sample{n:03d}.nii.gz").data for n in range(3)])
    mean = volumes.load(recon).data
    assert (mean <= samples.mean(0) + 1e-3).all(), "the magnitude of a complex mean, which phases only lower"
    assert float((samples.mean(0) - mean).mean() / mean.mean()) < 0.1
    torch.testing.assert_close(samples.std(0), volumes.load(tmp_path / "recon_std.nii.gz").data, rtol=1e-3, atol=1e-2)
    alone = tmp_path / "alone.nii.gz"
    assert cli("reconstruct", y, "-o", alone, "--steps", 2, "--samples", 1, "--seed", 2).code == 0
    assert sha(alone) == sha(tmp_path / "recon_sample002.nii.gz")
    assert not (tmp_path / "alone_std.nii.gz").exists()


def test_four_dimensions_keep_their_frames(epi_path, tmp_path, cli):
    image = nibabel.load(epi_path)
    source = tmp_path / "series.nii"
    block = image.slicer[40:71, 30:61, 10:12].get_fdata()  # 31 x 31 x 2 x 2, odd sides
    nibabel.save(nibabel.Nifti1Image(block.astype(np.float32), image.affine, image.header), source)
    y, recon = tmp_path / "y.h5", tmp_path / "recon.nii.gz"
    assert cli("simulate", "mri", source, "-o", y, "--axis", 2).code == 0
    assert cli("reconstruct", y, "-o", recon, *QUICK).code == 0
    assert same_place(recon, source).shape == (31, 31, 2, 2)
    rows = json.loads(cli("evaluate", recon, "--reference", source, "--json").out)
    assert [r["frame"] for r in rows] == [0, 1]


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_along_another_axis(axis, small_volume, tmp_path, cli):
    y, recon = tmp_path / "y.h5", tmp_path / "recon.nii"
    assert cli("simulate", "denoise", small_volume, "-o", y, "--axis", axis, "--noise", 0).code == 0
    assert cli("reconstruct", y, "-o", recon, "--solver", "cg").code == 0
    x = same_place(recon, small_volume)
    np.testing.assert_allclose(x, nibabel.load(small_volume).get_fdata(), atol=1e-2)


def test_flags_win_over_set_and_set_over_the_run_file(y, tmp_path, cli):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({
        "solver": "diffpir", "samples": 3, "seed": 7, "settings": {"steps": 3, "zeta": 0.25, "cg_iterations": 2},
    }))  # fmt: skip

    def facts(name, *args):
        assert cli("reconstruct", y, "-o", tmp_path / f"{name}.nii.gz", "--config", config, *args).code == 0
        return json.loads((tmp_path / f"{name}.json").read_text())

    a = facts("a")
    assert (a["solver"]["steps"], a["solver"]["zeta"], a["seeds"]) == (3, 0.25, [7, 8, 9])
    b = facts("b", "--set", "steps=2", "--set", "solver.zeta=0.5", "--samples", 1)
    assert (b["solver"]["steps"], b["solver"]["zeta"], b["solver"]["cg_iterations"]) == (2, 0.5, 2)
    assert b["seeds"] == [7]
    c = facts("c", "--set", "steps=2", "--steps", 1, "--seed", 1, "--samples", 1)
    assert (c["solver"]["steps"], c["seeds"]) == (1, [1])
    d = facts("d", "--solver", "cg")  # another solver: the file's settings are not its own
    assert d["solver"] == {"kind": "cg", "iterations": 20}
    e = facts("e", "--solver", "DiffPIR", "--samples", 1)
    assert e["solver"]["steps"] == 3
    f = facts("f", "--preset", "quality", "--samples", 1, "--steps", 2)  # over the file, under the flags
    assert (f["solver"]["kind"], f["solver"]["steps"], f["solver"]["sigma_max"], f["seeds"]) == ("daps", 2, 1.0, [7])
    g = facts("g", "--preset", "fast")
    assert (g["solver"]["kind"], g["gives"], g["seeds"]) == ("pnp", "point estimate", [7])


def test_names_fold_to_lower_case(y, tmp_path, cli):
    assert cli("reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "CG").code == 0
    assert json.loads((tmp_path / "r.json").read_text())["solver"]["kind"] == "cg"


def test_simulate_is_reproducible_and_the_seed_matters(small_volume, tmp_path, cli):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli("simulate", "mri", small_volume, "-o", tmp_path / f"{name}.h5", "--seed", seed).code == 0
    y = {}
    for name in "abc":
        with h5py.File(tmp_path / f"{name}.h5") as f:
            y[name] = f["y"][()]
            assert f.attrs["version"] == 2
            assert {"acquisition", "noise", "shape", "axis", "facts", "format"} <= set(f.attrs)
    assert y["a"].tobytes() == y["b"].tobytes()
    assert y["a"].tobytes() != y["c"].tobytes()


def test_one_percent_is_a_hundredth(small_volume, tmp_path, cli):
    for name, noise in (("a", "1%"), ("b", "0.01")):
        assert cli("simulate", "blur", small_volume, "-o", tmp_path / f"{name}.h5", "--noise", noise).code == 0
    assert sha(tmp_path / "a.h5") == sha(tmp_path / "b.h5")


def test_force_replaces(y, tmp_path, cli):
    recon = tmp_path / "r.nii.gz"
    recon.write_bytes(b"old")
    assert cli("reconstruct", y, "-o", recon, "--solver", "adjoint", "--force").code == 0
    assert volumes.load(recon).data.shape == (1, 48, 40, 4)


def test_evaluate_prints_data_only(small_volume, tmp_path, cli, program):
    done = program("evaluate", small_volume, "--reference", small_volume, "--json", "--ssim", "2d")
    assert (done.code, done.err) == (0, "")
    (row,) = json.loads(done.out)
    assert row["ssim"] == pytest.approx(1)
    assert row["nrmse"] == 0
    assert row["psnr"] is None or math.isinf(row["psnr"])
    done = cli("evaluate", small_volume, "--reference", small_volume, "--tsv")
    (tsv,) = csv.DictReader(io.StringIO(done.out), delimiter="\t")
    assert set(tsv) == set(row)
    assert {"psnr", "ssim", "nrmse"} <= set(tsv)
    assert cli("evaluate", small_volume, "--reference", small_volume).out.startswith("image small.nii.gz  ")


def test_evaluate_inside_a_mask_and_its_gates(small_volume, measured, tmp_path, cli):
    recon, mask = tmp_path / "r.nii.gz", tmp_path / "mask.nii.gz"
    assert cli("reconstruct", measured, "-o", recon, "--solver", "cg").code == 0
    image = nibabel.load(small_volume)
    inside = (image.get_fdata() > 200).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(inside, image.affine), mask)
    whole, masked = (
        json.loads(cli("evaluate", recon, "--reference", small_volume, "--json", *extra).out)[0]
        for extra in ((), ("--mask", mask))
    )
    assert whole["psnr"] != masked["psnr"]
    gates = ("--fail-under", "psnr=5", "--fail-under", "nrmse=0.9", "--fail-under", "ssim=0.1")
    assert cli("evaluate", recon, "--reference", small_volume, *gates).code == 0
    done = cli("evaluate", recon, "--reference", small_volume, "--json", "--fail-under", "psnr=99")
    assert done.code == 8
    assert json.loads(done.out)[0] == whole  # the figures are still there
    assert done.err == f"invdiff: GateError: frame 0: psnr is {whole['psnr']:.4f}, the gate is 99\n"
    done = cli("evaluate", recon, "--reference", small_volume, "--fail-under", "nrmse=0.0001")
    assert done.code == 8
    assert "nrmse is" in done.err


def test_progress_is_plain_lines_on_stderr(monkeypatch, y, tmp_path, cli):
    from invdiff_cli import progress as module

    monkeypatch.setattr(module.progress.__wrapped__, "__kwdefaults__", {"every": 0.0})
    done = cli("reconstruct", y, "-o", tmp_path / "r.nii", "--steps", 3, "--samples", 1)
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[0].startswith("diffpir, 1 x 4 slices: 2/3, ")
