"""CT projections: units, weights, geometry files, and their refusals."""

import math

import h5py
import numpy as np
import pytest
import tifffile
import torch
import yaml

from invdiff import measurements
from invdiff.acquisitions import CT
from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.importers.level import Level
from invdiff.importers.sinogram import measurement, read_array
from invdiff.operators import FanBeam, ParallelRadon
from invdiff.space import Space

N, MM, WATER = 48, 1.5, 0.0192
PARALLEL = {
    "kind": "parallel", "unit": "degrees", "arc": 180, "pitch": MM, "pixel": MM, "size": N, "slice": 3,
    "data": "attenuation",
}  # fmt: skip


@pytest.fixture
def disc():
    """Water in air, smooth at its rim, in two slices: attenuation in 1/mm, (2, 1, N, N)."""
    y, x = torch.meshgrid(*[torch.arange(N) - N // 2] * 2, indexing="ij")
    r = (x**2 + y**2).double().sqrt()
    return WATER * torch.stack([torch.sigmoid((radius - r) / 1.5) for radius in (15, 10)])[:, None]


@pytest.fixture
def write(tmp_path):
    """Write projections and geometry; returns their paths."""

    def write(values, geometry, name="p.npy"):
        path, settings = tmp_path / name, tmp_path / "geometry.yaml"
        if path.suffix == ".npy":
            np.save(path, values)
        elif path.suffix == ".tif":
            tifffile.imwrite(path, values)
        else:
            with h5py.File(path, "w") as f:
                f["sinogram"] = values
        settings.write_text(yaml.safe_dump(geometry))
        return path, settings

    return write


def project(image, views=90):
    """-log(I / I0), (slices, views, cells)."""
    angles = torch.arange(views, dtype=torch.float64) * math.pi / views
    return (MM * ParallelRadon(Space((1, N, N), torch.float64), angles))(image)[:, 0].numpy()


def check_physics(m, disc):
    """The measurement's own physics turn the disc, in Hounsfield units, into its projections."""
    want = m.acquisition.to_unknown((1000 * (disc / WATER - 1)).float(), 0)
    torch.testing.assert_close(m.operator()(want), m.y, rtol=1e-4, atol=1e-4 * float(m.y.abs().max()))


@pytest.mark.parametrize("name", ["p.npy", "p.tif", "p.h5"])
def test_attenuation_becomes_hounsfield_units(name, disc, write):
    m = measurement(*write(project(disc).astype(np.float32), PARALLEL, name))
    assert isinstance(m.acquisition, CT)
    assert m.shape == (1, N, N, 2)
    volume = m.volume(m.operator().direct(m.y))
    assert volume.spacing == (MM, MM, 3)
    hu = volume.data[0]
    assert float(hu[N // 2 - 4 : N // 2 + 4, N // 2 - 4 : N // 2 + 4, 0].mean()) == pytest.approx(0, abs=15)
    assert float(hu[2:5, 2:5].mean()) == pytest.approx(-1000, abs=15)
    check_physics(m, disc)


def test_output_in_attenuation(disc, write):
    m = measurement(*write(project(disc), PARALLEL | {"output": "attenuation"}))
    torch.testing.assert_close(m.operator()(disc.float()), m.y, rtol=1e-4, atol=1e-4)
    assert m.acquisition.zero == 0


def test_angles_may_be_listed_in_either_unit(disc, write):
    p = project(disc)
    wanted = measurement(*write(p, PARALLEL))
    geometry = {k: v for k, v in PARALLEL.items() if k != "arc"}
    for unit, half in (("degrees", 180), ("radians", math.pi)):
        angles = [round(k * half / 90, 6) for k in range(90)]
        m = measurement(*write(p, geometry | {"unit": unit, "angles": angles}))
        torch.testing.assert_close(m.y, wanted.y)
        check_physics(m, disc)


def test_angles_may_come_in_any_order(disc, write):
    """Golden angles, many turns: the physics are those of the listed views, not of equally spaced ones."""
    degrees = [10 + 111.246 * k for k in range(40)]
    A = ParallelRadon(Space((1, N, N), torch.float64), torch.deg2rad(torch.tensor(degrees).double() % 360))
    geometry = {k: v for k, v in PARALLEL.items() if k != "arc"} | {"angles": degrees}
    check_physics(measurement(*write((MM * A)(disc)[:, 0].numpy(), geometry)), disc)


def test_a_fan(disc, write):
    geometry = PARALLEL | {
        "kind": "fan", "arc": 360, "source_to_axis": 300, "source_to_detector": 500, "pitch": 2.0, "offset": 0.25,
    }  # fmt: skip
    angles = torch.arange(60, dtype=torch.float64) * 2 * math.pi / 60
    A = FanBeam(Space((1, N, N), torch.float64), angles, 300 / MM, 500 / MM, 90, pitch=2 / MM, offset=0.25)
    m = measurement(*write((MM * A)(disc)[:, 0].numpy(), geometry | {"output": "attenuation"}))
    torch.testing.assert_close(m.operator()(disc.float()), m.y, rtol=1e-4, atol=1e-4)


def test_counts_are_weighted_so_that_their_noise_is_white(disc, write, generator):
    photons = 2000.0
    rate = photons * torch.exp(-torch.from_numpy(project(disc)))
    counts = torch.poisson(rate, generator=generator)
    m = measurement(*write(counts.numpy(), PARALLEL | {"data": "counts", "photons": photons}))
    assert m.noise.sigma == pytest.approx(photons**-0.5 * 1000 / WATER)
    assert m.facts["noise_from"] == "counts"
    clean = m.operator()(m.acquisition.to_unknown((1000 * (disc / WATER - 1)).float(), 0))
    z = (m.y - clean) / m.noise.sigma
    assert float(z.std()) == pytest.approx(1, rel=0.03)
    assert abs(float(z.mean())) < 0.05
    dark = counts.numpy().copy()
    dark[0, 0, 0] = 0
    assert torch.isfinite(measurement(*write(dark, PARALLEL | {"data": "counts", "photons": photons})).y).all()


def test_the_noise_of_attenuation(disc, write, generator):
    p = project(disc)
    noisy = p + 0.02 * torch.randn(p.shape, generator=generator, dtype=torch.float64).numpy()
    files = write(noisy, PARALLEL)
    found = measurement(*files)
    per_nepers = 1000 / (WATER * MM)
    assert found.noise.sigma == pytest.approx(0.02 * per_nepers, rel=0.05)
    assert measurement(*files, level=Level(sigma=0.02)).noise.sigma == pytest.approx(0.02 * per_nepers)
    fraction = measurement(*files, level=Level(fraction=0.01))
    assert fraction.noise.sigma == pytest.approx(0.01 * float(found.y.abs().mean()))


def test_from_the_command_line(disc, write, tmp_path, capsys):
    from invdiff_cli.app import app

    path, geometry = write(project(disc), PARALLEL)
    y = tmp_path / "y.h5"
    for args in (
        ("import", "sinogram", path, "--geometry", geometry, "-o", y, "--noise", "1%"),
        ("reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cg"),
    ):
        with pytest.raises(SystemExit) as e:
            app([str(a) for a in args])
        assert not e.value.code, capsys.readouterr().err
    assert measurements.load(y).facts["source"] == "p.npy"


WRONG = {
    "another key": ({"detector": 3}, ConfigError, "geometry.yaml has no setting 'detector'"),
    "another kind": ({"kind": "cone"}, ConfigError, "kind: Input should be 'parallel' or 'fan'"),
    "no unit": ({"unit": None}, ConfigError, "lacks unit; docs/import.md shows a geometry file"),
    "no pitch": ({"pitch": None}, ConfigError, "lacks pitch"),
    "no photons": ({"data": "counts"}, ConfigError, "lacks photons"),
    "no distances": ({"kind": "fan"}, ConfigError, "lacks source_to_axis, source_to_detector"),
    "no angles": ({"arc": None}, ConfigError, "gives neither of arc and angles"),
    "arc and angles": ({"angles": [0.0]}, ConfigError, "gives both of arc and angles"),
    "radians as degrees": ({"arc": math.pi}, ConfigError, "an arc of 3.14159 degrees make no scan; were .* in radians"),
    "degrees as radians": ({"unit": "radians"}, ConfigError, "an arc of 180 radians make no scan; were .* in degrees"),
    "listed in radians": (
        {"arc": None, "angles": [k * math.pi / 90 for k in range(90)]}, ConfigError, "were the angles given in radians",
    ),
    "too few angles": ({"arc": None, "angles": [0.0, 90.0]}, ShapeError, "has 2 angles, the data have 90 views"),
    "no number": ({"arc": None, "angles": [math.nan] * 90}, ConfigError, "angles must be finite"),
    "one size of three": ({"size": [3, 4, 5]}, ConfigError, r"size \[3, 4, 5\] is not that of a slice"),
    "negative pixel": ({"pixel": -1}, ConfigError, "pixel: Input should be greater than 0"),
    "source inside": (
        {"kind": "fan", "source_to_axis": 20, "source_to_detector": 500}, ConfigError, "source",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_geometries(case, disc, write):
    change, error, message = WRONG[case]
    geometry = {k: v for k, v in (PARALLEL | change).items() if v is not None}
    with pytest.raises(error, match=message):
        measurement(*write(project(disc), geometry))


def test_geometry_files_that_are_none(disc, write, tmp_path):
    path, settings = write(project(disc), PARALLEL)
    for text, message in (("[1, 2]", "holds no settings"), ("kind: [", "is no YAML file"), ("", "holds no settings")):
        settings.write_text(text)
        with pytest.raises(FileError, match=message):
            measurement(path, settings)
    with pytest.raises(FileError, match="no such geometry file"):
        measurement(path, tmp_path / "none.yaml")


def test_data_that_are_no_projections(tmp_path, write):
    with pytest.raises(FileError, match="no such file"):
        measurement(tmp_path / "none.npy", tmp_path / "g.yaml")
    for values, error, message in (
        (np.ones(4), ShapeError, r"has axes \(4,\); \(views, cells\) or \(slices, views, cells\) are needed"),
        (np.ones((3, 4), complex), FileError, "holds complex128 values"),
        (np.array([[1.0, np.nan]]), FileError, "NaN or infinite"),
    ):
        np.save(tmp_path / "p.npy", values)
        with pytest.raises(error, match=message):
            read_array(tmp_path / "p.npy")
    (tmp_path / "p.npy").write_bytes((tmp_path / "p.npy").read_bytes()[:-3])
    with pytest.raises(FileError, match=r"no readable \.npy file of numbers, perhaps truncated"):
        read_array(tmp_path / "p.npy")
    np.savez(tmp_path / "two.npz", a=np.ones(3), b=np.ones(3))
    (tmp_path / "two.npz").rename(tmp_path / "p.npy")
    with pytest.raises(FileError, match="is an archive of several arrays"):
        read_array(tmp_path / "p.npy")
    tifffile.imwrite(tmp_path / "p.tif", np.ones((3, 4), np.float32), compression="zlib")
    whole = (tmp_path / "p.tif").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:8] + b"\xff" * (len(whole) - 8)):
        (tmp_path / "p.tif").write_bytes(damaged)
        with pytest.raises(FileError, match=r"no readable \.tif file, perhaps truncated"):
            read_array(tmp_path / "p.tif")
    for name in ("p.tif", "p.h5"):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(FileError, match="no readable"):
            read_array(tmp_path / name)
    with pytest.raises(FileError, match=r"read from \.npy, \.tif or \.h5"):
        read_array(tmp_path / "p.raw")
    with h5py.File(tmp_path / "two.h5", "w") as f:
        f["a"], f["b"] = np.ones((3, 4)), np.ones((3, 4))
    with pytest.raises(FileError, match="holds a, b; call the projections 'sinogram'"):
        read_array(tmp_path / "two.h5")
    with pytest.raises(FileError, match="counts below 0, down to -1"):
        measurement(*write(np.full((90, 69), -1.0), PARALLEL | {"data": "counts", "photons": 100}))
