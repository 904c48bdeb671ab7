"""MRI as it is set: coils, patterns, volumes, phases and fields from files, from simulation to least squares."""

import nibabel
import numpy as np
import pytest
import torch

from invdiff.acquisitions import MRI
from invdiff.errors import ConfigError, ShapeError
from invdiff.operators import FFT, Coils, Mask
from invdiff.reconstruction import reconstruct
from invdiff.simulation import simulate
from invdiff.solvers import CG, Direct
from invdiff.space import Space
from invdiff.volumes import Volume, load


@pytest.fixture(scope="module")
def scan(epi_path):
    """Four real slices, 64 x 48 at 4 mm, faded out towards the border."""
    volume = load(epi_path)
    x = torch.nn.functional.avg_pool2d(volume.data[0].movedim(2, 0)[10:14, None], 2)[:, 0].movedim(0, 2)
    window = torch.hann_window(64, periodic=False)[:, None] * torch.hann_window(48, periodic=False)
    affine = volume.affine @ np.diag([2, 2, 1, 1])
    return Volume((x * window.sqrt()[..., None])[None].contiguous(), affine)


def error(recon, truth):
    return float((recon.data - truth.data).norm() / truth.data.norm())


def test_coils_know_more_than_one(scan):
    """At equal lines and noise, several coils fill what one leaves open, with maps from the data, too.

    ESPIRiT does better than the true maps, which are not 0 where nothing is: there least squares puts noise.
    """
    how = {"acceleration": 2.5, "center_fraction": 0.3}
    found = {}
    for name, mri in {
        "one": MRI(**how),
        "true": MRI(coils=8, **how),
        "espirit": MRI(coils=8, coil_maps="espirit", **how),
        "adaptive": MRI(coils=8, coil_maps="adaptive", **how),
    }.items():
        m = simulate(scan, mri, noise=0.002, seed=1)
        found[name] = error(reconstruct(m, CG(iterations=20)).mean, scan)
    assert found["true"] < 0.75 * found["one"]
    assert found["espirit"] < 0.75 * found["true"]
    assert found["adaptive"] < found["true"]


def test_estimated_maps_are_those_of_each_slice_and_of_the_noisy_data(scan):
    m = simulate(scan, MRI(coils=4, coil_maps="espirit", center_fraction=0.4), noise=0.01)
    assert m.maps["coils"].shape == (4, 4, 64, 48)
    assert m.operator().problems == 4
    cleaner = simulate(scan, MRI(coils=4, coil_maps="espirit", center_fraction=0.4), noise=0.001)
    assert not torch.equal(m.maps["coils"], cleaner.maps["coils"])
    alone = reconstruct(m, CG(iterations=5), width=1).mean.data
    torch.testing.assert_close(alone, reconstruct(m, CG(iterations=5), width=3).mean.data, rtol=1e-4, atol=1e-2)


def test_several_coils_are_a_product_with_a_short_normal_map(monkeypatch):
    mri, space = MRI(coils=3), Space((1, 16, 12))
    maps = mri.maps(space, (2.0, 2.0), 0)
    A = mri.operator(space, (2.0, 2.0), maps)
    c = Space((1, 16, 12), torch.complex64)
    coils = Coils(c, maps["coils"])
    product = Mask(coils.range, maps["lines"][:, None]) @ FFT(coils.range) @ coils
    x = torch.randn(2, 2, 16, 12)
    torch.testing.assert_close(A(x), product(torch.complex(x[:, :1], x[:, 1:])))
    real, seen = torch.fft.fftn, []

    def noted(k, dim, **how):
        seen.append((k.shape, dim))
        return real(k, dim=dim, **how)

    monkeypatch.setattr(torch.fft, "fftn", noted)
    A.normal(x)
    assert seen == [((1, 3, 12, 16), (-1,))] * 2, "of each row once, along the axis of the lines, which lies last"


def test_noise_of_several_coils_is_per_coil(scan):
    m = simulate(scan, MRI(coils=4), noise=0.01)
    clean = simulate(scan, MRI(coils=4), noise=0.0)
    residual = torch.view_as_real(m.y - clean.y)
    assert float(residual.std()) == pytest.approx(m.noise.sigma, rel=0.02)


@pytest.mark.parametrize("pattern", ["random", "gaussian", "poisson"])
def test_volumes_with_two_phase_encoding_axes(pattern, scan):
    how = {"dimension": "3d", "pattern": pattern, "acceleration": 2.0, "center_fraction": 0.3}
    m, one = (simulate(scan, MRI(coils=coils, **how), noise=0.001) for coils in (4, 1))
    assert m.y.shape[:2] == (1, 4)
    assert m.maps["mask"].shape == (64, 1, 4)
    assert int(m.maps["mask"].sum()) == 128
    several, single = (error(reconstruct(x, CG(iterations=60)).mean, scan) for x in (m, one))
    assert several < 0.3 * single
    full = simulate(scan, MRI(dimension="3d", pattern=pattern, acceleration=1.0), noise=0.0)
    assert error(reconstruct(full, Direct()).mean, scan) < 1e-5


def test_partial_fourier_is_told_by_the_phase_alone(scan):
    """Of an image without phase the missing half follows from the measured one; of one with a phase it does not.

    All but the line at -n / 2, which is its own mirror line.
    """
    how = {"acceleration": 1.0, "partial_fourier": 0.625}
    real = reconstruct(simulate(scan, MRI(image="real", **how), noise=0.0), CG(iterations=30)).mean
    complex_ = reconstruct(simulate(scan, MRI(**how), noise=0.0), CG(iterations=30)).mean
    assert error(real, scan) < 0.01
    assert error(complex_, scan) > 0.05


def test_a_given_phase(scan, tmp_path):
    angle = torch.linspace(-2, 2, 64)[:, None, None] * torch.ones(64, 48, 4)
    path = tmp_path / "phase.nii.gz"
    nibabel.save(nibabel.Nifti1Image(angle.numpy(), scan.affine), path)
    unknown = MRI(phase_file=str(path)).to_unknown(scan.data[0].movedim(2, 0)[:, None], 0)
    z = torch.complex(unknown[:, 0], unknown[:, 1])
    want = torch.polar(scan.data[0].movedim(2, 0), angle.movedim(2, 0))
    torch.testing.assert_close(z, want, rtol=1e-5, atol=1e-2)
    series = simulate(scan.like(scan.data.repeat(3, 1, 1, 1)), MRI(phase_file=str(path)), noise=0.0)
    torch.testing.assert_close(series.y[:4], series.y[8:])
    across = np.moveaxis(angle.numpy(), 2, 0)
    np.save(tmp_path / "phase.npy", across)
    moved = MRI(phase_file=str(tmp_path / "phase.npy"), file_axis=0).to_unknown(scan.data[0].movedim(2, 0)[:, None], 0)
    torch.testing.assert_close(moved, unknown)


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_off_resonance_turns_the_phase_and_is_undone(dimension, scan, tmp_path):
    hertz = np.random.default_rng(0).normal(0, 20, (64, 48, 4))
    np.save(tmp_path / "field.npy", hertz)
    how = {"dimension": dimension, "acceleration": 1.0, "pattern": "random"}
    mri = MRI(field_map=str(tmp_path / "field.npy"), echo_time=30.0, **how)
    m, plain = simulate(scan, mri, noise=0.0), simulate(scan, MRI(**how), noise=0.0)
    assert error(reconstruct(m, CG()).mean, scan) < 1e-4
    x = reconstruct(plain, Direct()).samples[0]
    image = torch.complex(x[:, 0], x[:, 1])
    angle = 2 * np.pi * 30e-3 * torch.from_numpy(hertz)
    angle = angle[None] if dimension == "3d" else angle.movedim(2, 0)
    want = torch.fft.fftn(
        image * torch.polar(torch.ones_like(angle), angle), dim=tuple(range(1, image.ndim)), norm="ortho"
    )
    torch.testing.assert_close(
        m.y.flatten(), want.to(m.y.dtype).flatten(), rtol=1e-3, atol=1e-3 * float(want.abs().max())
    )


REFUSED = {
    "given": ({"pattern": "given"}, ConfigError, "pattern = given is for imported data, whose file says it"),
    "poisson": ({"pattern": "poisson"}, ConfigError, "poisson is not for 2d, where it is one of random, equis"),
    "equispaced": (
        {"pattern": "equispaced", "dimension": "3d"}, ConfigError, "not for 3d, where it is one of random, gaussian",
    ),
    "no middle": (
        {"coils": 2, "coil_maps": "espirit", "center_fraction": 0.02}, ConfigError, "this one has 1 x 24; raise center",
    ),
    "phase of another size": ({"phase_file": "small.npy"}, ShapeError, "holds images of 5x6, those of the scan are"),
    "field of another size": ({"field_map": "small.npy"}, ShapeError, "those of the scan are 64x48; check --file-axis"),
    "phase that is no number": ({"phase_file": "nan.npy"}, ConfigError, "holds NaN or infinite values; set them to 0"),
    "phase of three slices": ({"phase_file": "three.npy"}, ShapeError, "has 3 images, the scan 4; give one for each"),
    "field of three slices": ({"field_map": "three.npy"}, ShapeError, "maps are for 3 images, the volume has 4; give"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, scan, tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((5, 6)))
    np.save(tmp_path / "nan.npy", np.full((64, 48), np.nan))
    np.save(tmp_path / "three.npy", np.random.default_rng(0).normal(size=(64, 48, 3)))
    settings, kind, message = REFUSED[case]
    settings = {k: str(tmp_path / v) if str(v).endswith(".npy") else v for k, v in settings.items()}
    with pytest.raises(kind, match=message):
        simulate(scan, MRI(**settings), noise=0.01)


def test_from_the_command_line(scan, small_volume, tmp_path, capfd):
    from invdiff_cli.app import app

    y, r = tmp_path / "y.h5", tmp_path / "r.nii.gz"
    for command in (
        ["simulate", "mri", small_volume, "-o", y, "--coils", 4, "--coil-maps", "espirit", "--center-fraction", 0.3],
        ["reconstruct", y, "-o", r, "--solver", "cg"],
        ["reconstruct", y, "-o", r, "--steps", 2, "--samples", 2, "--force"],
    ):
        with pytest.raises(SystemExit) as e:
            app(list(map(str, command)))
        assert not e.value.code, capfd.readouterr().err
    assert load(r).data.shape == load(small_volume).data.shape
