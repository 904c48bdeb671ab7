"""Images as measurements, in two steps and in one; what `invdiff import` refuses."""

import hashlib
import json
from dataclasses import replace

import h5py
import nibabel
import numpy as np
import pytest
import torch
import yaml

from invdiff import measurements, volumes
from invdiff.acquisitions import CT, Inpaint
from invdiff.errors import ConfigError, ShapeError
from invdiff.importers.image import measurement
from invdiff.importers.level import Level

FACTORS = {
    ("lowres", ()): (2, 2, 1),
    ("lowres", ("factor=3",)): (3, 3, 1),
    ("lowres", ("factor=2", "factor_z=3")): (2, 2, 3),
    ("lowres", ("method=bicubic",)): (2, 2, 1),
    ("thickslices", ("factor=4", "gap=1")): (1, 1, 4),
    ("blur", ("fwhm=5",)): (1, 1, 1),
    ("denoise", ()): (1, 1, 1),
}


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sets(pairs, prefix=""):
    return [part for pair in pairs for part in ("--set", prefix + pair)]


@pytest.mark.parametrize(("acquisition", "pairs"), FACTORS)
def test_an_image_becomes_a_finer_volume_at_its_place(acquisition, pairs, small_volume, tmp_path, cli):
    y, recon = tmp_path / "y.h5", tmp_path / "recon.nii.gz"
    done = cli("import", "nifti", small_volume, "-o", y, "--acquisition", acquisition, *sets(pairs))
    assert (done.code, done.out, done.err) == (0, "", "")
    done = cli("reconstruct", y, "-o", recon, "--solver", "direct" if acquisition == "thickslices" else "cg")
    assert done.code == 0, done.err
    coarse, fine = volumes.load(small_volume), volumes.load(recon)
    f = FACTORS[acquisition, pairs]
    assert tuple(fine.data.shape[1:]) == tuple(n * k for n, k in zip(coarse.data.shape[1:], f, strict=True))
    # The centre of each measured voxel is the mean of the centres of the fine ones that it covers.
    for index in ((0, 0, 0), (47, 39, 3), (20, 11, 2)):
        first = np.array(index) * f
        ends = [fine.affine @ [*first, 1], fine.affine @ [*(first + np.array(f) - 1), 1]]
        np.testing.assert_allclose(np.mean(ends, axis=0), coarse.affine @ [*index, 1], atol=1e-4)
    header = nibabel.load(recon).header
    assert header["xyzt_units"] == nibabel.load(small_volume).header["xyzt_units"]
    np.testing.assert_allclose(header.get_zooms(), np.array(coarse.spacing) / f, rtol=1e-5)


def test_block_means_of_the_result_are_the_image(small_volume, tmp_path, cli):
    recon = tmp_path / "recon.nii.gz"
    args = ("--acquisition", "lowres", "--solver", "cg", "--sigma", 1)
    assert cli("reconstruct", small_volume, "-o", recon, *args).code == 0
    x = volumes.load(recon).data[0].numpy()
    means = x.reshape(48, 2, 40, 2, 4).mean((1, 3))
    np.testing.assert_allclose(means, volumes.load(small_volume).data[0], rtol=1e-4, atol=1e-2)


def test_one_step_is_two_steps(small_volume, tmp_path, cli):
    y, two, one = tmp_path / "y.h5", tmp_path / "two.nii.gz", tmp_path / "one.nii.gz"
    quick = ("--steps", 2, "--samples", 2)
    blur = ("--acquisition", "blur", "--axis", 1)
    assert cli("import", "nifti", small_volume, "-o", y, *blur, "--set", "acquisition.fwhm=6").code == 0
    assert cli("reconstruct", y, "-o", two, *quick).code == 0
    done = cli("reconstruct", small_volume, "-o", one, *blur, "--set", "acquisition.fwhm=6", *quick)
    assert (done.code, done.out) == (0, ""), done.err
    assert sha(one) == sha(two)
    assert sha(tmp_path / "one_std.nii.gz") == sha(tmp_path / "two_std.nii.gz")
    facts = json.loads((tmp_path / "one.json").read_text())
    assert facts["input"] == {"file": "small.nii.gz", "sha256": sha(small_volume)}
    assert facts["acquisition"]["fwhm"] == 6
    assert facts["measurement"]["noise_from"] == "finest wavelets"
    assert facts["noise"]["sigma"] == measurements.load(y).noise.sigma > 0


def test_the_run_file_repeats_one_step(small_volume, tmp_path, cli, monkeypatch):
    mask, recon = tmp_path / "mask.npy", tmp_path / "recon.nii.gz"
    np.save(mask, np.random.default_rng(0).random((48, 40)) > 0.3)
    monkeypatch.chdir(tmp_path)
    how = ("--acquisition", "inpaint", "--set", "acquisition.mask=mask.npy", "--noise", "2%")
    assert cli("reconstruct", small_volume, "-o", recon, *how, "--steps", 2, "--samples", 1).code == 0
    run = yaml.safe_load((tmp_path / "recon.run.yaml").read_text())
    assert run["image_sha256"] == sha(small_volume)
    assert run["acquisition"] == {"kind": "inpaint", "missing": 0.5, "mask": "mask.npy", "mask_axis": 2}
    assert run["acquisition_sha256"] == {"mask": sha(mask)}
    assert (run["axis"], "measurement" in run) == (2, False)
    assert run["sigma"] > 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = cli("reconstruct", "--config", "../recon.run.yaml", "-o", "again.nii.gz")
    assert (done.code, done.out) == (0, ""), done.err
    assert sha(tmp_path / "elsewhere" / "again.nii.gz") == sha(recon)
    assert (
        yaml.safe_load((tmp_path / "elsewhere" / "again.run.yaml").read_text())["acquisition"]["mask"] == "../mask.npy"
    )
    done = cli(
        "reconstruct",
        "--config",
        "again.run.yaml",
        "-o",
        "third.nii.gz",
        "--sigma",
        3,
        "--set",
        "acquisition.mask_axis=1",
    )
    assert done.code == 0, done.err
    third = json.loads((tmp_path / "elsewhere" / "third.json").read_text())
    assert (third["noise"]["sigma"], third["acquisition"]["mask_axis"]) == (3, 1)
    np.save(mask, np.ones((48, 40), bool))
    done = cli("reconstruct", "--config", "again.run.yaml", "-o", "fourth.nii.gz")
    assert done.code == 4
    assert "a file of the acquisition is not that of the run (checksum differs)" in done.err


def test_a_run_file_of_an_image_serves_another_image_and_a_measurement(small_volume, y, tmp_path, cli):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"acquisition": {"kind": "lowres", "factor": 3}, "solver": "cg", "sigma": 2.0}))

    def facts(name, *args):
        done = cli("reconstruct", *args, "-o", tmp_path / f"{name}.nii", "--config", config)
        assert done.code == 0, done.err
        return json.loads((tmp_path / f"{name}.json").read_text())

    a = facts("a", small_volume)
    assert (a["acquisition"]["factor"], a["noise"]["sigma"]) == (3, 2)
    assert facts("b", small_volume, "--set", "acquisition.factor=2")["acquisition"]["factor"] == 2
    c = facts("c", small_volume, "--acquisition", "denoise", "--noise", "1%")
    assert c["acquisition"] == {"kind": "denoise"}
    assert c["noise"]["sigma"] != 2
    assert facts("d", y)["acquisition"]["kind"] == "mri"


def test_a_mask_says_what_was_measured(small_volume, tmp_path, cli):
    image = nibabel.load(small_volume)
    mask = np.ones(image.shape, np.uint8)
    mask[10:20, 10:20, 2] = 0
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "mask.nii")
    how = ("--acquisition", "inpaint", "--set", f"mask={tmp_path / 'mask.nii'}", "--sigma", 1)
    assert cli("import", "nifti", small_volume, "-o", tmp_path / "y.h5", *how).code == 0
    m = measurements.load(tmp_path / "y.h5")
    x = m.volume(m.operator().direct(m.y)).data[0].numpy()
    np.testing.assert_allclose(x, image.get_fdata() * mask, rtol=1e-5)


def test_frames_stay_frames(epi_path, tmp_path, cli):
    image = nibabel.load(epi_path).slicer[30:50, 30:46, 5:7]
    nibabel.save(image, tmp_path / "series.nii")
    args = ("--acquisition", "lowres", "--solver", "direct")
    assert cli("reconstruct", tmp_path / "series.nii", "-o", tmp_path / "r.nii", *args).code == 0
    assert nibabel.load(tmp_path / "r.nii").shape == (40, 32, 2, 2)


REFUSED = {
    "no acquisition": (
        4,
        ["s.nii", "-o", "r.nii"],
        "s.nii is an image; say how it was measured, e.g. --acquisition low",
    ),
    "raw data": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "mri"],
        "an image is not what mri measures; bring raw data",
    ),
    "unknown": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "lowers"],
        "no acquisition 'lowers'; did you mean 'lowres'?",
    ),
    "unknown setting": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "lowres", "--set", "acquisition.fator=2"],
        "LowRes has no setting 'fator'; did you mean 'factor'?",
    ),
    "out of range": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "lowres", "--set", "acquisition.factor=1"],
        "LowRes.factor: Input should be greater than or equal to 2, got 1",
    ),
    "random voxels": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "inpaint", "--solver", "cg"],
        "only a mask can say; give --set acquisition.mask=FILE",
    ),
    "not a whole factor": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "lowres", "--set", "acquisition.to=2.5", "--solver", "cg"],
        "no whole number of voxels; give --factor",
    ),
    "two levels": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "denoise", "--noise", "1%", "--sigma", "2"],
        "--noise and --sigma both give the noise level",
    ),
    "negative sigma": (
        2,
        ["s.nii", "-o", "r.nii", "--acquisition", "denoise", "--sigma", "-2", "--solver", "cg"],
        "--sigma must be a finite number >= 0, got -2",
    ),
    "a measurement": (2, ["y.h5", "-o", "r.nii", "--axis", "1"], "y.h5 is a measurement and knows how it was made"),
    "nothing to apply to": (2, ["-o", "r.nii", "--noise", "1%"], "are for images; give --acquisition"),
    "no file": (2, ["-o", "r.nii", "--acquisition", "lowres"], "no measurement; give a .h5 file"),
    "missing mask": (
        4,
        ["s.nii", "-o", "r.nii", "--acquisition", "inpaint", "--set", "acquisition.mask=m.npy", "--solver", "cg"],
        "m.npy: no such file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_one_step_refuses(case, y, small_volume, tmp_path, refused, monkeypatch):
    nibabel.save(nibabel.load(small_volume), tmp_path / "s.nii")
    monkeypatch.chdir(tmp_path)
    code, args, message = REFUSED[case]
    assert message in refused(code, "reconstruct", *args)


def test_masks_of_a_real_image(small_volume, tmp_path):
    """One for each slice, and a noise level where holes of zeros hide it."""
    masks = np.random.default_rng(0).random((48, 40, 4)) > 0.3
    np.save(tmp_path / "m.npy", masks[..., :3])
    volume = volumes.load(small_volume)
    with pytest.raises(ShapeError, match="the given maps are for 3 images, the volume has 4; give as many"):
        measurement(volume, Inpaint(mask=str(tmp_path / "m.npy")), level=Level(sigma=1.0))
    np.save(tmp_path / "m.npy", masks)
    acquisition = Inpaint(mask=str(tmp_path / "m.npy"))
    assert measurement(volume, acquisition).noise.sigma > 0, "the voxels under the mask are those of the scan"
    holes = replace(volume, data=volume.data * torch.from_numpy(masks))
    with pytest.raises(ConfigError, match="missing voxels that are 0 in the image hide its noise level; give it by"):
        measurement(holes, acquisition)
    assert measurement(holes, acquisition, level=Level(sigma=2.0)).noise.sigma == 2


def test_an_acquisition_whose_measurements_are_no_images(small_volume):
    with pytest.raises(ConfigError, match=r"ct measures 1x60x65 float32, the image holds 1x48x40 .*choose lowres"):
        measurement(volumes.load(small_volume), CT())


def test_what_import_refuses_before_it_works(small_volume, y, tmp_path, refused):
    blur = ("--acquisition", "blur")
    message = refused(2, "import", "nifti", small_volume, "-o", tmp_path / "y.nii", *blur)
    assert "a measurement is written as .h5" in message
    assert "exists; pass --force" in refused(2, "import", "nifti", small_volume, "-o", y, *blur)
    assert "--voxel takes three sizes in mm" in refused(
        2, "import", "cfl", "k", "-o", tmp_path / "z.h5", "--voxel", "1,2"
    )
    assert "sizes above 0 mm" in refused(2, "import", "cfl", "k", "-o", tmp_path / "z.h5", "--voxel", "1,2,0")
    assert "is written as .nii" in refused(2, "import", "dicom", tmp_path, "-o", tmp_path / "z.h5")
    message = refused(2, "import", "twix", "k", "-o", tmp_path / "z.h5", "--noise", "1%", "--sigma", 1)
    assert "give one of them" in message
    assert "noise is a fraction" in refused(2, "import", "twix", "k", "-o", tmp_path / "z.h5", "--noise", "much")
    for kind in ("fastmri", "ismrmrd", "twix", "cfl"):
        assert "no such file" in refused(4, "import", kind, tmp_path / "none", "-o", tmp_path / "z.h5")


def test_run_files_with_a_wrong_acquisition(small_volume, tmp_path, refused):
    run = tmp_path / "run.yaml"
    args = ("reconstruct", small_volume, "-o", tmp_path / "r.nii", "--config", run)
    for content, message in (
        ({"acquisition": {"factor": 2}}, "the acquisition has no kind"),
        ({"acquisition": "lowres"}, "acquisition"),
        ({"acquisition": {"kind": "lowres", "fctor": 2}}, "LowRes has no setting 'fctor'"),
        ({"axis": 3, "acquisition": {"kind": "lowres"}}, "axis"),
    ):
        run.write_text(yaml.safe_dump(content))
        assert message in refused(2, *args)


def test_the_measurement_says_where_it_comes_from(small_volume, tmp_path, cli):
    y = tmp_path / "y.h5"
    assert cli("import", "nifti", small_volume, "-o", y, "--acquisition", "denoise", "--sigma", 7).code == 0
    with h5py.File(y) as f:
        facts = json.loads(f.attrs["facts"])
    assert facts == {
        "simulated": False, "imported": "image", "noise_from": "given", "source": "small.nii.gz",
        "source_sha256": sha(small_volume),
    }  # fmt: skip
    assert measurements.load(y).noise.sigma == 7
