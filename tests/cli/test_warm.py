"""`reconstruct --warm`: on record, repeatable to the bit, left out by a flag, every refusal in words."""

import json

import nibabel
import numpy as np
import pytest
import yaml

QUICK = ("--steps", 6, "--samples", 2)


@pytest.fixture
def series(small_volume, tmp_path, cli):
    """Two frames of the small volume, the second one a little brighter, measured."""
    image = nibabel.load(small_volume)
    data = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image(np.stack([data, data * 1.02], -1), image.affine), tmp_path / "scan.nii")
    assert cli("simulate", "mri", tmp_path / "scan.nii", "-o", tmp_path / "s.h5", "--image", "real").code == 0
    return tmp_path / "s.h5"


def test_a_series_is_repeated_by_its_run_file(series, tmp_path, cli):
    done = cli("reconstruct", series, "-o", tmp_path / "a.nii", "--warm", "frames", *QUICK)
    assert (done.code, done.out) == (0, ""), done.err
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["warm"]["along"] == "frames"
    assert facts["warm"]["nfe"][1] < facts["warm"]["nfe"][0] == 6
    assert facts["warm"]["calls_saved"] > 0
    run = yaml.safe_load((tmp_path / "a.run.yaml").read_text())
    assert (run["warm"], run["width"]) == ({"along": "frames"}, 8)
    assert cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "b.nii").code == 0
    for kind in (".nii", "_std.nii"):
        assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes(), kind
    assert cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "c.nii", "--warm", "none").code == 0
    assert "warm" not in yaml.safe_load((tmp_path / "c.run.yaml").read_text())
    assert cli("reconstruct", series, "-o", tmp_path / "d.nii", *QUICK).code == 0
    assert (tmp_path / "c.nii").read_bytes() == (tmp_path / "d.nii").read_bytes() != (tmp_path / "a.nii").read_bytes()


def test_a_stack_from_a_level_that_is_given(measured, tmp_path, cli):
    how = ("--warm", "slices", "--set", "warm.sigma=0.3", "--steps", 6, "--samples", 1)
    assert cli("reconstruct", measured, "-o", tmp_path / "a.nii", *how).code == 0
    assert json.loads((tmp_path / "a.json").read_text())["warm"]["sigma_asked"] == 0.3
    run = yaml.safe_load((tmp_path / "a.run.yaml").read_text())
    assert (run["warm"], run["width"]) == ({"along": "slices", "sigma": 0.3}, 1)
    other = ("--config", tmp_path / "a.run.yaml", "--set", "warm.sigma=0.9")
    assert cli("reconstruct", *other, "-o", tmp_path / "b.nii").code == 0
    assert yaml.safe_load((tmp_path / "b.run.yaml").read_text())["warm"] == {"along": "slices", "sigma": 0.9}
    assert (tmp_path / "a.nii").read_bytes() != (tmp_path / "b.nii").read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--warm", "frames"), "a warm start needs a neighbour, and there is one frame only; leave --warm, or take"),
        (("--warm", "slices", "--planes", "2"), "here a volume is one; choose --warm frames, or leave"),
        (("--warm", "slices", "--solver", "pnp"), "PnP does not; daps, ddnm, ddnmplus, ddrm would do"),
        (("--warm", "slices", "--solver", "tv"), "TV does not; daps, ddnm, ddnmplus, ddrm would do"),
        (("--warm", "slices", "--set", "warm.sigma=0"), "Warm.sigma: Input should be greater than 0, got 0"),
        (("--warm", "slices", "--set", "warm.sigmas=1"), "Warm has no setting 'sigmas'; did you mean 'sigma'?"),
        (("--set", "warm.sigma=0.3"), "--set warm.KEY=VALUE is for warm starts; give --warm frames or --warm slices"),
        (("--warm", "none", "--set", "warm.sigma=0.3"), "--set warm.KEY=VALUE is for warm starts"),
        (
            ("--warm", "slices", "--set", "schedule=ddpm"),
            "the lower levels of the schedule ddpm are no ladder of their",
        ),
    ],
)
def test_refusals(args, message, measured, tmp_path, refused):
    assert message in refused(2, "reconstruct", measured, "-o", tmp_path / "a.nii", *args)


def test_info_shows_the_settings(cli):
    assert "sigma = None  (float or none, > 0)  Noise level of the start" in cli("info", "warm").out
