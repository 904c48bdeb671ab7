"""Blurred, coarse and incomplete scans: from settings to measurements, reconstructions and refusals."""

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from invdiff import config, measurements
from invdiff.acquisitions import Blur, Denoise, Inpaint, LowRes, MeasuredBlur, MotionBlur, ThickSlices, VaryingBlur
from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.operators import Mask, Separable
from invdiff.reconstruction import reconstruct
from invdiff.simulation import simulate
from invdiff.solvers import CG, DiffPIR
from invdiff.space import Space
from invdiff.volumes import load

FWHM = 2.354820045
SLICES = {
    "blur": Blur(fwhm=5.0, fwhm_y=3.0),
    "motion": MotionBlur(edge="circular"),
    "random motion": MotionBlur(path="random", length=16.0),
    "varying": VaryingBlur(),
    "lowres": LowRes(factor=3),
    "bicubic": LowRes(method="bicubic"),
    "lowres in mm": LowRes(to=5.0),
    "inpaint": Inpaint(),
    "denoise": Denoise(),
}
VOLUMES = {
    "blur through slices": Blur(fwhm=4.0, fwhm_z=4.0),
    "lowres through slices": LowRes(factor=2, factor_z=2),
    "bicubic through slices": LowRes(method="bicubic", factor_z=3, axis_z=0),
    "thick slices": ThickSlices(factor=2),
    "thick slices with gap": ThickSlices(factor=4, gap=2.0, profile="smooth", axis_z=1),
    "thick slices in mm": ThickSlices(thickness=5.0, gap=1.0, profile="gaussian", axis_z=0),
}


@pytest.fixture(scope="module")
def scan(small_volume):
    return load(small_volume)


@pytest.mark.parametrize("name", SLICES | VOLUMES)
def test_from_a_scan_to_a_reconstruction(name, scan, tmp_path):
    acquisition = (SLICES | VOLUMES)[name]
    simulated = simulate(scan, acquisition, noise=0.01, seed=3)
    measurements.save(tmp_path / "y.h5", simulated)
    m = measurements.load(tmp_path / "y.h5")
    assert m.acquisition == acquisition
    assert torch.equal(m.y, simulated.y)
    by_cg = reconstruct(m, CG(iterations=10))
    assert by_cg.mean.data.shape == scan.data.shape
    assert by_cg.facts["data_fit"]["mean"]["relative_residual"] < 0.2
    if not acquisition.volumetric:
        by_prior = reconstruct(m, DiffPIR(steps=2), seeds=(0,))
        assert bool(torch.isfinite(by_prior.mean.data).all())


@pytest.mark.parametrize("name", SLICES | VOLUMES)
def test_settings_survive_a_run_file(name):
    acquisition = (SLICES | VOLUMES)[name]
    settings = config.dump(acquisition)
    assert settings.pop("kind") == type(acquisition).__name__.lower()
    assert config.build(type(acquisition), settings) == acquisition
    assert config.build(type(acquisition), {k: str(v) for k, v in settings.items()}) == acquisition, "from flags"


def test_blur_in_mm_along_each_axis(scan):
    y = simulate(scan, Blur(fwhm=5.0, fwhm_y=3.0, fwhm_z=8.0), noise=0.0).y
    std = [w / FWHM / mm for w, mm in zip((5.0, 3.0, 8.0), scan.spacing, strict=True)]
    want = gaussian_filter(scan.data[0].double().numpy(), std, mode="reflect")
    np.testing.assert_allclose(y[0, 0].numpy(), want, rtol=1e-5, atol=1e-3)
    slices = simulate(scan, Blur(fwhm=5.0, fwhm_y=3.0), noise=0.0).y
    std[2] = 0
    want = gaussian_filter(scan.data[0].double().numpy(), std, mode="reflect")
    np.testing.assert_allclose(slices[:, 0].movedim(0, -1).numpy(), want, rtol=1e-5, atol=1e-3)


def test_the_axis_across_the_slices():
    A = Blur(fwhm=3.0, fwhm_y=5.0, fwhm_z=7.0, axis_z=0).operator(Space((1, 9, 9, 9), torch.float64), (1.0,) * 3, {})
    x = torch.zeros(1, 1, 9, 9, 9, dtype=torch.float64)
    x[0, 0, 4, 4, 4] = 1
    y = A(x)[0, 0]
    assert float(y[6, 4, 4]) > float(y[4, 4, 6]) > float(y[4, 6, 4]), "7, 5 and 3 mm along axes 0, 2 and 1"


def test_every_blur_keeps_the_mean_of_a_flat_image(scan):
    flat = scan.like(torch.full_like(scan.data, 7.0))
    for name in ("blur", "motion", "random motion"):
        y = simulate(flat, SLICES[name], noise=0.0, seed=1).y
        torch.testing.assert_close(y, torch.full_like(y, 7.0), rtol=1e-5, atol=0)
    y = simulate(flat, SLICES["varying"], noise=0.0).y
    assert float(y.sum()) == pytest.approx(float(flat.data.sum()), rel=1e-5), (
        "here each voxel spreads by its own kernel"
    )
    edges = simulate(flat, MotionBlur(edge="zero"), noise=0.0).y
    assert float(edges.min()) < 6


def test_a_random_path_comes_from_the_seed(scan):
    a, b, c = (simulate(scan, MotionBlur(path="random"), noise=0.0, seed=s).maps["kernel"] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert a.shape != c.shape or not torch.equal(a, c)


def test_sizes_of_what_is_measured(scan):
    assert scan.data.shape[1:] == (48, 40, 4)
    sizes = {name: tuple(simulate(scan, a, noise=0.0).y.shape) for name, a in (SLICES | VOLUMES).items()}
    mm = scan.spacing
    assert sizes["lowres"] == (4, 1, 16, 14)
    assert sizes["lowres in mm"] == (4, 1, int(np.ceil(48 * mm[0] / 5)), int(np.ceil(40 * mm[1] / 5)))
    assert sizes["lowres through slices"] == (1, 1, 24, 20, 2)
    assert sizes["bicubic through slices"] == (1, 1, 16, 20, 2)
    assert sizes["thick slices"] == (1, 1, 48, 40, 2)
    assert sizes["thick slices with gap"] == (1, 1, 48, 10, 4)
    assert sizes["thick slices in mm"] == (1, 1, round(48 * mm[0] / 6), 40, 4)


def test_factors_to_the_finer_grid():
    assert Blur().finer(2) == (1, 1)
    assert Blur(fwhm_z=3.0).finer(3) == (1, 1, 1)
    assert LowRes(factor=3).finer(2) == (3, 3)
    assert LowRes(factor=3, factor_z=5).finer(3) == (3, 3, 5)
    assert LowRes(factor=3, factor_z=5, axis_z=0).finer(3) == (5, 3, 3)
    assert ThickSlices(factor=6, gap=1.0).finer(3) == (1, 1, 6)
    assert ThickSlices(factor=6, axis_z=1).finer(3) == (1, 6, 1)
    with pytest.raises(ConfigError, match="lowres to 5 mm is no whole number of voxels; give --factor instead of --to"):
        LowRes(to=5.0).finer(2)
    with pytest.raises(ConfigError, match="a thickness in mm are no whole number of voxels apart; give --factor"):
        ThickSlices(thickness=5.0).finer(3)


def test_coarse_voxels_in_mm_and_in_factors_agree(scan):
    mm = scan.spacing[0]
    assert mm == pytest.approx(scan.spacing[1])
    a, b = (simulate(scan, x, noise=0.0).y for x in (LowRes(to=3 * mm), LowRes(factor=3)))
    torch.testing.assert_close(a, b)
    z = scan.spacing[2]
    thick = ThickSlices(thickness=1.5 * z, gap=0.5 * z), ThickSlices(factor=2, gap=0.5 * z)
    torch.testing.assert_close(*(simulate(scan, x, noise=0.0).y for x in thick))


def test_block_means_have_closed_forms():
    A = LowRes(factor=2).operator(Space((1, 8, 8)), (1.0, 1.0), {})
    assert isinstance(A, Separable)
    assert A.gram is not None


def save_nifti(path, values, mm):
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.diag([*mm, 1.0])), path)
    return str(path)


def test_a_measured_kernel_is_not_needed_again(scan, tmp_path):
    h = np.ones((3, 5))
    h[1, 2] = 4
    np.save(tmp_path / "psf.npy", h)
    m = simulate(scan, MeasuredBlur(kernel=str(tmp_path / "psf.npy")), noise=0.01)
    measurements.save(tmp_path / "y.h5", m)
    (tmp_path / "psf.npy").unlink()
    again = measurements.load(tmp_path / "y.h5")
    torch.testing.assert_close(again.maps["kernel"].numpy(), h / h.sum())
    assert reconstruct(again, CG()).mean.data.shape == scan.data.shape
    assert reconstruct(again, DiffPIR(steps=2), seeds=(0,)).mean.data.shape == scan.data.shape


def test_a_measured_kernel_with_three_axes(scan, tmp_path):
    path = save_nifti(tmp_path / "psf.nii.gz", np.ones((3, 3, 3)), scan.spacing)
    m = simulate(scan, MeasuredBlur(kernel=path, dimensions=3), noise=0.0)
    assert m.y.shape == (1, 1, 48, 40, 4)
    torch.testing.assert_close(m.y[0, 0, 10, 10, 1], scan.data[0, 9:12, 9:12, 0:3].mean(), rtol=1e-4, atol=1e-2)
    assert reconstruct(m, CG()).mean.data.shape == scan.data.shape


def test_a_mask_from_a_file_for_all_slices(scan, tmp_path):
    mask = np.arange(48 * 40).reshape(48, 40) % 3
    np.save(tmp_path / "mask.npy", mask)
    stack = save_nifti(tmp_path / "mask.nii", np.repeat(mask[..., None], 4, axis=2), scan.spacing)
    one = save_nifti(tmp_path / "one.nii", mask[..., None], scan.spacing)
    for path in (str(tmp_path / "mask.npy"), stack, one):
        m = simulate(scan, Inpaint(mask=path), noise=0.0)
        assert isinstance(m.operator(), Mask)
        assert torch.equal(m.maps["mask"], torch.from_numpy(mask != 0))
        assert m.y.shape == (4, 1, 1280)


@pytest.mark.parametrize("axis", [2, 0])
def test_a_mask_of_its_own_for_each_slice(scan, tmp_path, axis):
    mask = np.random.default_rng(0).random((48, 40, 4)) < np.array([0.3, 0.5, 0.7, 0.9])
    np.save(tmp_path / "mask.npy", np.moveaxis(mask, 2, axis))
    m = simulate(scan, Inpaint(mask=str(tmp_path / "mask.npy"), mask_axis=axis), noise=0.01)
    measurements.save(tmp_path / "y.h5", m)
    (tmp_path / "mask.npy").unlink()
    m = measurements.load(tmp_path / "y.h5")
    A = m.operator()
    assert A.problems == 4
    x = scan.data[0].movedim(2, 0)[:, None]
    torch.testing.assert_close(A.normal(x), x * torch.from_numpy(mask).movedim(2, 0)[:, None])
    assert reconstruct(m, CG()).mean.data.shape == scan.data.shape
    assert reconstruct(m, DiffPIR(steps=2), seeds=(0,)).mean.data.shape == scan.data.shape


def test_slices_of_several_frames_need_masks_for_all(scan, tmp_path):
    mask = np.random.default_rng(0).random((48, 40, 4)) < 0.5
    np.save(tmp_path / "mask.npy", mask)
    series = scan.like(scan.data.repeat(2, 1, 1, 1))
    with pytest.raises(ShapeError, match="the given maps are for 4 images, the volume has 8; give as many"):
        simulate(series, Inpaint(mask=str(tmp_path / "mask.npy")))


MASKS = {
    "another size": (np.ones((40, 48)), ShapeError, "masks slices of 40x48, those of the scan are 48x40; check --axis"),
    "another axis": (np.ones((4, 48, 40)), ShapeError, "masks slices of 4x48, those.*48x40; check --axis and"),
    "four axes": (np.ones((48, 40, 4, 2)), ShapeError, "holds 48x40x4x2 numbers, 2 or 3 axes are needed"),
    "an empty slice": (
        np.stack([np.ones((48, 40)), np.zeros((48, 40))], 2), ConfigError, "is 0 in all of slice 1: nothing of it"
    ),
    "not a number": (np.full((48, 40), np.nan), ConfigError, "holds NaN; a mask is 0 where voxels are missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_file_that_is_no_mask(name, scan, tmp_path):
    values, error, message = MASKS[name]
    np.save(tmp_path / "mask.npy", values)
    with pytest.raises(error, match=f"mask.npy {message}"):
        simulate(scan, Inpaint(mask=str(tmp_path / "mask.npy")))


REFUSED = {
    "no mask": (Inpaint(mask="none.nii"), FileError, "none.nii: no such file; check the name"),
    "no kernel": (MeasuredBlur(), ConfigError, "measuredblur needs the file of a kernel; give --kernel psf.nii.gz"),
    "kernel not found": (MeasuredBlur(kernel="none.npy"), FileError, "none.npy: no such file"),
    "long motion": (MotionBlur(length=900.0), ShapeError, r"a kernel of \d+x\d+ is larger than images of 1x48x40"),
    "finer voxels": (LowRes(to=0.5), ConfigError, r"voxels of 2 x 2 mm cannot become 0.5 mm.*raise --to"),
    "one voxel": (LowRes(factor=41), ConfigError, "between 1 and the axis' length 40, got 41"),
    "slices that are all gap": (ThickSlices(factor=2, gap=99.0), ConfigError, "slices need a thickness > 0.*and gap"),
    "slices too far apart": (ThickSlices(factor=9), ConfigError, "slices every 9 voxels do not fit an axis of 4"),
    "a fine grid": (VaryingBlur(grid=41), ShapeError, "a grid of 41x41 kernels is finer than images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_message(name, scan):
    acquisition, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        simulate(scan, acquisition)
