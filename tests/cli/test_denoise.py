"""`invdiff denoise` and `evaluate-dwi`, as a user calls them."""

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

from invdiff import volumes
from invdiff.noise import GaussianNoise
from invdiff_datasets.diffusion import gradient_table, head

QUICK = ("--set", "steps=3", "--set", "width=16", "--set", "batch=2", "--set", "crop=16")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A phantom with 5 % noise, its truth, its mask, its table; an oblique header with a NaN zoom, as some have."""
    folder = tmp_path_factory.mktemp("dwi")
    p = head((24, 20, 4), gradient_table({1000: 12}, b0=2))
    affine = np.array([[1.9, 0.3, 0, -20], [-0.3, 1.9, 0, 7], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    for name, volume in (("truth", p.series), ("dwi", p.noisy(GaussianNoise(30.0), 1))):
        image = nibabel.Nifti1Image(volume.data.permute(1, 2, 3, 0).numpy(), affine)
        image.header["pixdim"][4] = np.nan
        image.header["descrip"] = b"phantom"
        nibabel.save(image, folder / f"{name}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(p.mask.astype(np.uint8), affine), folder / "mask.nii.gz")
    np.savetxt(folder / "dwi.bval", p.gradients.bvals[None], fmt="%g")
    np.savetxt(folder / "dwi.bvec", p.gradients.bvecs.T, fmt="%.6f")
    return folder


def test_the_round_trip(cli, scans, tmp_path):
    """Header, b0s, table: bit for bit; the rest is what was taken off and how much noise there is."""
    out = tmp_path / "clean.nii.gz"
    assert cli("denoise", scans / "dwi.nii.gz", "-o", out, *QUICK).code == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        f"clean{e}" for e in (".nii.gz", "_noise.nii.gz", "_residual.nii.gz", ".bval", ".bvec", ".json", ".png")
    }
    before, after = nibabel.load(scans / "dwi.nii.gz"), nibabel.load(out)
    for field in before.header:
        np.testing.assert_array_equal(before.header[field], after.header[field], field)
    x, y = volumes.load(scans / "dwi.nii.gz"), volumes.load(out)
    bvals = np.loadtxt(scans / "dwi.bval")
    assert torch.equal(x.data[bvals == 0], y.data[bvals == 0])
    for end in (".bval", ".bvec"):
        assert out.with_name(f"clean{end}").read_bytes() == (scans / f"dwi{end}").read_bytes()
    residual = volumes.load(tmp_path / "clean_residual.nii.gz")
    torch.testing.assert_close(residual.data, x.data - y.data)
    facts = json.loads((tmp_path / "clean.json").read_text())
    assert facts["method"]["kind"] == "difusion"
    assert facts["noise"] == pytest.approx(30, rel=0.15)
    assert facts["intended_use"] == "research only"
    assert set(facts["output_sha256"]) == {p.name for p in tmp_path.iterdir()} - {"clean.json"}
    told = cli("denoise", scans / "dwi.nii.gz", "-o", out, *QUICK)
    assert (told.code, "exists; pass --force" in told.err) == (2, True)


@pytest.mark.parametrize("method", ["mppca", "patch2self", "nlmeans"])
def test_the_same_door(method, cli, scans, tmp_path):
    flags = ("--bval", scans / "dwi.bval", "--bvec", scans / "dwi.bvec", "--mask", scans / "mask.nii.gz")
    out = tmp_path / "a.nii"
    assert cli("denoise", scans / "dwi.nii.gz", "-o", out, "--method", method, "--b0", "denoise", *flags).code == 0
    found = cli("evaluate-dwi", out, "--reference", scans / "truth.nii.gz", "--raw", scans / "dwi.nii.gz", "--json",
                "--mask", scans / "mask.nii.gz", "--picture", tmp_path / "a_fa.png")  # fmt: skip
    rows = json.loads(found.out)
    assert set(rows["reference"]["shells"]) == {"0", "1000"}
    assert rows["raw"]["residual_std"] > 10
    assert (tmp_path / "a_fa.png").stat().st_size > 5000
    text = cli("evaluate-dwi", out, "--reference", scans / "truth.nii.gz", "--mask", scans / "mask.nii.gz").out
    assert "reference direction_degrees  " in text


def test_complex_series(cli, scans, tmp_path):
    x = volumes.load(scans / "dwi.nii.gz")
    volumes.save(tmp_path / "real.nii", x.like(x.data * 0.6))
    volumes.save(tmp_path / "imaginary.nii", x.like(x.data * 0.8))
    volumes.save(tmp_path / "phase.nii", x.like(torch.full_like(x.data, 0.9273)))
    table = ("--bval", scans / "dwi.bval", "--bvec", scans / "dwi.bvec", "--method", "mppca")
    assert cli("denoise", tmp_path / "real.nii", "-o", tmp_path / "a.nii", "--imaginary", tmp_path / "imaginary.nii",
               *table).code == 0  # fmt: skip
    assert cli("denoise", scans / "dwi.nii.gz", "-o", tmp_path / "b.nii", "--phase", tmp_path / "phase.nii",
               *table).code == 0  # fmt: skip
    assert json.loads((tmp_path / "b.json").read_text())["inputs"]["phase"]["file"] == "phase.nii"
    a, b = (volumes.load(tmp_path / f"{n}.nii").data for n in "ab")
    torch.testing.assert_close(a.abs(), b.abs(), atol=1.0, rtol=1e-3)


def test_a_single_volume_goes_to_the_prior_of_brains(cli, small_volume, tmp_path):
    out = tmp_path / "c.nii.gz"
    assert cli("denoise", small_volume, "-o", out, "--set", "steps=1").code == 0
    assert json.loads((tmp_path / "c.json").read_text())["solver"]["kind"] == "dmid"
    told = cli("denoise", small_volume, "-o", tmp_path / "d.nii.gz", "--method", "difusion")
    assert told.code == 2
    assert "is a single volume; --method difusion is for series, leave it out or take dmid" in told.err


def test_refusals(cli, scans, small_volume, tmp_path):
    dwi, out = scans / "dwi.nii.gz", tmp_path / "o.nii.gz"
    lone = tmp_path / "lone.nii.gz"
    shutil.copy(dwi, lone)
    (tmp_path / "short.bval").write_text("0 1000 1000\n")
    (tmp_path / "short.bvec").write_text("0 1 0\n0 0 1\n0 0 0\n")
    (tmp_path / "long.bvec").write_text("\n".join(" ".join(["0.5"] * 14) for _ in range(3)))
    cases = [
        (2, "has no lone.bval beside it; give --bval", (lone, "-o", out)),
        (2, "has 3 b-values", (dwi, "-o", out, "--bval", tmp_path / "short.bval", "--bvec", tmp_path / "short.bvec")),
        (2, "not of unit length, the first is 0.866 long", (dwi, "-o", out, "--bvec", tmp_path / "long.bvec")),
        (4, "has shape (48, 40, 4), the series (24, 20, 4)", (dwi, "-o", out, "--mask", small_volume)),
        (2, "is a series; --method dmid is for 3-D volumes", (dwi, "-o", out, "--method", "dmid")),
        (2, "give one of them", (dwi, "-o", out, "--phase", dwi, "--imaginary", dwi)),
        (2, "DiFusion has no setting 'stps'; did you mean 'steps'?", (dwi, "-o", out, "--set", "stps=2")),
        (2, "a series is written as .nii or .nii.gz", (dwi, "-o", tmp_path / "o.mgz")),
        (4, "two parts of a complex series have shapes", (dwi, "-o", out, "--phase", small_volume)),
    ]  # fmt: skip
    for code, words, flags in cases:
        told = cli("denoise", *flags)
        assert (told.code, words in told.err.replace("\n", " ")) == (code, True), (words, told.err)
    told = cli("evaluate-dwi", dwi)
    assert (told.code, "nothing to compare with; give --raw, --reference or both" in told.err) == (2, True)
    assert not out.exists()


def test_nan_is_not_repaired(cli, scans, tmp_path):
    image = nibabel.load(scans / "dwi.nii.gz")
    data = np.asarray(image.dataobj).copy()
    data[3, 4, 1, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, image.affine), tmp_path / "nan.nii.gz")
    table = ("--bval", scans / "dwi.bval", "--bvec", scans / "dwi.bvec")
    told = cli("denoise", tmp_path / "nan.nii.gz", "-o", tmp_path / "o.nii.gz", *table)
    assert told.code == 4
    assert "1 of 26880 voxels are NaN or infinite in float32, the first at [3, 4, 1] of frame 2" in told.err


@pytest.mark.parametrize("method", ["difusion", "mppca", "patch2self", "nlmeans"])
@pytest.mark.parametrize("b0s", [0, 1])
def test_few_or_no_b0(method, b0s, cli, scans, tmp_path):
    """One volume without weighting stays as it is; without any the rest is denoised all the same."""
    image, bvals = nibabel.load(scans / "dwi.nii.gz"), np.loadtxt(scans / "dwi.bval")
    kept = np.sort([*np.flatnonzero(bvals == 0)[:b0s], *np.flatnonzero(bvals > 0)])
    data = np.asarray(image.dataobj)[..., kept]
    nibabel.save(nibabel.Nifti1Image(data, image.affine), tmp_path / "dwi.nii.gz")
    np.savetxt(tmp_path / "dwi.bval", bvals[None, kept], fmt="%g")
    np.savetxt(tmp_path / "dwi.bvec", np.loadtxt(scans / "dwi.bvec")[:, kept], fmt="%.6f")
    flags = QUICK if method == "difusion" else ()
    done = cli("denoise", tmp_path / "dwi.nii.gz", "-o", tmp_path / "a.nii", "--method", method, *flags)
    assert done.code == 0, done.err
    clean = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    unweighted = bvals[kept] == 0
    np.testing.assert_array_equal(clean[..., unweighted], data[..., unweighted])
    assert np.abs(clean - data)[..., ~unweighted].mean() > 3
