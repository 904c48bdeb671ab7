"""`reconstruct --grid`: thick slices on voxels that the prior knows, written at their place, repeated to the bit."""

import json

import nibabel
import numpy as np
import pytest
import yaml

QUICK = ("--planes", "2,0", "--steps", 2, "--samples", 2)


@pytest.fixture(scope="module")
def thick(tmp_path_factory, epi_path):
    """Eight slices of 2 x 2 x 6.6 mm: means of three of a real series, at the place of all of them."""
    image = nibabel.load(epi_path)
    block = np.asarray(image.dataobj[40:80, 30:64, :, 0]).astype(np.float32)
    affine = image.affine @ nibabel.affines.from_matvec(np.diag([1, 1, 3]), [40, 30, 1])
    path = tmp_path_factory.mktemp("thick") / "thick.nii.gz"
    nibabel.save(nibabel.Nifti1Image(block.reshape(40, 34, 8, 3).mean(3), affine), path)
    return path


@pytest.fixture
def noisy(thick, tmp_path, cli):
    path = tmp_path / "y.h5"
    assert cli("simulate", "denoise", thick, "-o", path, "--noise", "2%").code == 0
    return path


def facts(path):
    return json.loads(path.read_text())


def test_thick_slices_from_end_to_end(thick, noisy, tmp_path, cli):
    done = cli("reconstruct", noisy, "-o", tmp_path / "a.nii.gz", *QUICK)
    assert (done.code, done.out) == (0, "")
    assert "pixels" not in done.err
    record = facts(tmp_path / "a.json")
    assert record["grid"]["sizes"] == [40, 34, 24]
    np.testing.assert_allclose(record["grid"]["spacing"], [2, 2, 2.2], rtol=1e-3)
    source = nibabel.load(thick)
    for name in ("a.nii.gz", "a_std.nii.gz"):
        got = nibabel.load(tmp_path / name)
        assert (got.shape, got.affine.tobytes()) == (source.shape, source.affine.tobytes())
        assert got.header["pixdim"].tobytes() == source.header["pixdim"].tobytes()
    error = nibabel.load(tmp_path / "a.nii.gz").get_fdata() - source.get_fdata()
    assert np.abs(error).mean() < 2 * record["noise"]["sigma"]

    run = yaml.safe_load((tmp_path / "a.run.yaml").read_text())
    assert (run["grid"], run["planes"]) == ("prior", [2, 0])
    assert cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "b.nii.gz").code == 0
    for ending in (".nii.gz", "_std.nii.gz"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_the_grid_of_the_scan_is_kept_on_request(noisy, tmp_path, cli):
    done = cli("reconstruct", noisy, "-o", tmp_path / "a.nii", *QUICK, "--grid", "scan")
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if "pixels" in line]
    assert warnings == [
        "invdiff: warning: the prior brain-mr was trained on nearly square pixels of 0.5 to 3 mm; slices across axis 0 "
        "have 2 x 6.6 mm; --grid prior gives it such as it knows"
    ]
    assert facts(tmp_path / "a.json")["grid"] is None
    assert yaml.safe_load((tmp_path / "a.run.yaml").read_text())["grid"] == "scan"
    config = ("reconstruct", "--config", tmp_path / "a.run.yaml", "-o")
    assert cli(*config, tmp_path / "b.nii").code == 0
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    assert cli(*config, tmp_path / "c.nii", "--planes", "0").code == 0
    assert facts(tmp_path / "c.json")["grid"]["sizes"] == [40, 34, 24], "other planes have a grid of their own"


def test_a_run_file_with_a_grid_serves_solvers_without_a_prior(noisy, tmp_path, cli):
    assert cli("reconstruct", noisy, "-o", tmp_path / "a.nii", *QUICK).code == 0
    tv = ("--solver", "tv", "--set", "iterations=2")
    assert cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "b.nii", *tv).code == 0
    assert "grid" not in yaml.safe_load((tmp_path / "b.run.yaml").read_text())


def test_refusals(noisy, tmp_path, refused):
    args = ("reconstruct", noisy, "-o", tmp_path / "a.nii", "--grid", "prior")
    assert "TV has no prior, so that it has no other grid; leave --grid prior" in refused(2, *args, "--solver", "tv")
    message = refused(2, *args, "--solver", "i2sb", "--prior", "brain-mr-bridge")
    assert "I2SB begins with the degraded image on the scan's own voxels" in message
    message = refused(2, *args, "--prior", "ellipses")
    assert (
        "the prior ellipses does not say which voxels it was trained on, so that it has no grid of its own" in message
    )


def test_a_grid_that_there_is_not(noisy, tmp_path, cli):
    done = cli("reconstruct", noisy, "-o", tmp_path / "a.nii", "--grid", "fine")
    assert done.code == 2
    assert "'fine' is not one of 'auto', 'scan', 'prior'" in done.err
