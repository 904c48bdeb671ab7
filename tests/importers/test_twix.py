"""Siemens raw data, written by twixtools: counters, flags, oversampling, noise, places."""

import sys

import numpy as np
import pytest
import torch

from invdiff import measurements, volumes
from invdiff.errors import ConfigError, FileError, GeometryError
from invdiff.importers import twix as importer
from invdiff.importers.common import measurement
from invdiff.importers.level import Level


def protocol(scan, **settings):
    """What the importer reads of a header; other settings on request."""
    h, w = scan.image.shape[1:]
    known = {
        "sKSpace__lBaseResolution": w, "sKSpace__lPhaseEncodingLines": h, "sKSpace__ucDimension": 2,
        "sKSpace__ucTrajectory": 1, "sRXSPEC__alDwellTime[0]": 5000,
        "sSliceArray__asSlice[0]__dReadoutFOV": w * scan.spacing[1],
        "sSliceArray__asSlice[0]__dPhaseFOV": h * scan.spacing[0],
        "sSliceArray__asSlice[0]__dThickness": scan.spacing[2],
    }  # fmt: skip
    return {k: v for k, v in (known | settings).items() if v is not None}


def lines_of(kspace, **counters):
    slices, _, readout, phases = kspace.shape
    for s in range(slices):
        for p in range(phases):
            yield (
                kspace[s, :, :, p],
                {"Lin": p, "Sli": s, "CenterCol": readout // 2, "CenterLin": phases // 2, **counters},
                [],
            )


def test_from_the_file_to_an_image_close_to_the_truth(scan, write_twix, tmp_path, cli):
    path = write_twix([(list(lines_of(scan.kspace(sigma=5.0))), protocol(scan))])
    y, recon = tmp_path / "y.h5", tmp_path / "recon.nii.gz"
    cli("import", "twix", path, "-o", y)
    assert measurements.load(y).noise.sigma == pytest.approx(5, rel=0.1)
    cli("reconstruct", y, "-o", recon, "--solver", "cg")
    volume = volumes.load(recon)
    want = np.abs(scan.image).transpose(1, 2, 0)
    assert np.linalg.norm(volume.data[0].numpy() - want) < 0.05 * np.linalg.norm(want)
    np.testing.assert_allclose(volume.spacing, scan.spacing, rtol=1e-5)


def test_the_noise_scan_before_the_image(scan, write_twix):
    rng = np.random.default_rng(0)
    mixing = np.array([[2, 0, 0, 0], [1, 1, 0, 0], [0, 0, 3, 0], [0, 1, 0, 1]])
    white = rng.standard_normal((2, 50, 4, 256))
    noise = [(mixing @ (re + 1j * im), {}, ["NOISEADJSCAN"]) for re, im in zip(*white, strict=True)]
    path = write_twix([
        (noise, protocol(scan, **{"sRXSPEC__alDwellTime[0]": 20000})),
        (list(lines_of(scan.kspace())), protocol(scan)),
    ])  # fmt: skip
    m = measurement(importer.read(path))
    assert m.facts["noise_from"] == "noise scan"
    assert m.noise.sigma == pytest.approx(np.sqrt((mixing**2).sum() / 4 * 4 / 0.79), rel=0.02)


def test_averages_repetitions_and_reflected_lines(scan, write_twix):
    k = scan.kspace()
    lines = [*lines_of(k, Ave=0), *((3 * d, c, f) for d, c, f in lines_of(k, Ave=1))]
    np.testing.assert_allclose(
        importer.read(write_twix([(lines, protocol(scan))])).samples[0, ..., 0], 2 * k, rtol=1e-5
    )
    lines = [*lines_of(k), *((d[:, ::-1], c | {"CenterCol": 39, "Rep": 1}, ["REFLECT"]) for d, c, _ in lines_of(k))]
    found = importer.read(write_twix([(lines, protocol(scan))]))
    for frame in range(2):
        np.testing.assert_allclose(found.samples[frame, ..., 0], k)


@pytest.mark.parametrize(("mode", "used"), [(2, 48), (4, 40)])
def test_reference_lines_belong_to_the_image_only_in_place(mode, used, scan, write_twix):
    lines = [(d, c, ["PATREFSCAN"] if c["Lin"] < 8 else f) for d, c, f in lines_of(scan.kspace())]
    lines += [(1e9 * np.ones((4, 80)), {"Lin": 3}, [flag]) for flag in ("PHASCOR", "RTFEEDBACK", "PHASESTABSCAN")]
    found = importer.read(write_twix([(lines, protocol(scan, sPat__ucRefScanMode=mode))]))
    assert int(found.measured[0, 0].sum()) == used
    assert float(found.samples.abs().max()) < 1e8


def test_where_the_slices_lie(scan, write_twix):
    """Quaternion and normal of a real transversal scan, tilted by 2.2 degrees, from one header."""
    quaternion, normal = (0.7069765, -0.01357464, 0.01357464, 0.7069765), np.array([0, 0.0383878, 0.999263])
    lines = []
    for data, counters, flags in lines_of(scan.kspace()):
        position = np.array([1, 2, 3]) + 4.0 * (1, 3, 0, 2)[counters["Sli"]] * normal  # interleaved
        lines.append((data, counters | {"place": (position, quaternion)}, flags))
    found = importer.read(write_twix([(lines, protocol(scan))]))
    place = found.place
    axes = np.stack([place.rows, place.columns, place.normal])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(place.normal, normal, atol=1e-5)
    assert place.order.tolist() == [2, 0, 3, 1]
    m = measurement(found, level=Level(sigma=1))
    volume = m.volume(m.operator().direct(m.y))
    np.testing.assert_allclose(volume.affine @ [24, 20, 0, 1], [-1, -2, 3, 1], atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (*scan.spacing[:2], 4), rtol=1e-4)
    want = torch.from_numpy(np.abs(scan.image)[[2, 0, 3, 1]]).permute(1, 2, 0)
    assert float((volume.data[0] - want).norm() / want.norm()) < 0.05
    assert importer._directions(np.zeros(4)) is None


def test_slices_in_several_orientations(scan, write_twix):
    tilted = (0.5**0.5, 0.5**0.5, 0, 0)
    lines = [
        (d, c | {"place": ((0, 0, 0), tilted if c["Sli"] else (1, 0, 0, 0))}, f) for d, c, f in lines_of(scan.kspace())
    ]
    with pytest.raises(GeometryError, match=r"slice 1 has normal \[0.0, -1.0, 0.0\] and .*a localiser\? export one"):
        importer.read(write_twix([(lines, protocol(scan))]))


def test_a_volume(scan, write_twix):
    rng = np.random.default_rng(0)
    k = rng.standard_normal((6, 1, 80, 48)) + 0j
    lines = [(k[z, :, :, p], {"Lin": p, "Par": z, "CenterCol": 40, "CenterLin": 24, "CenterPar": 3}, [])
             for z in range(6) for p in range(48)]  # fmt: skip
    settings = {"sKSpace__ucDimension": 4, "sKSpace__lPartitions": 6}
    found = importer.read(write_twix([(lines, protocol(scan, **settings))]))
    np.testing.assert_allclose(found.samples[0, 0].movedim(-1, 0), k, rtol=1e-5)
    m = measurement(found, level=Level(sigma=1))
    assert (m.shape, m.axis) == ((1, 48, 40, 6), 1)


def test_refused(scan, write_twix, tmp_path):
    lines = list(lines_of(scan.kspace()))
    with pytest.raises(ConfigError, match=r"has trajectory type 2; only Cartesian scans \(1\) are imported"):
        importer.read(write_twix([(lines, protocol(scan, sKSpace__ucTrajectory=2))]))
    with pytest.raises(FileError, match=r"meas\.dat: the header lacks 'lBaseResolution'"):
        importer.read(write_twix([(lines, protocol(scan, sKSpace__lBaseResolution=None))]))
    slices = {k: None for k in protocol(scan) if k.startswith("sSliceArray")}
    with pytest.raises(FileError, match="the header lacks 'sSliceArray'"):
        importer.read(write_twix([(lines, protocol(scan, **slices))]))
    path = write_twix([(lines, protocol(scan))])
    whole = path.read_bytes()
    for part in (100_000, 11_000, 10_300, 50, 0):
        path.write_bytes(whole[:part])
        with pytest.raises(FileError, match="truncated"):
            importer.read(path)
    path.write_text("no twix file\n" * 2000)
    with pytest.raises(FileError, match="no readable twix file, perhaps truncated"):
        importer.read(path)
    with pytest.raises(FileError, match="no such file"):
        importer.read(tmp_path / "none.dat")
    noise = [(np.ones((4, 16)), {}, ["NOISEADJSCAN"])] * 3
    with pytest.raises(FileError, match="holds no image data"):
        importer.read(write_twix([(noise, protocol(scan))]))


def test_nothing_is_printed(scan, write_twix, capfd):
    importer.read(write_twix([(list(lines_of(scan.kspace())), protocol(scan))]))
    assert capfd.readouterr() == ("", "")
    assert torch.is_tensor(importer.read(write_twix([(list(lines_of(scan.kspace())), protocol(scan))])).samples)


def test_the_extra_is_named(scan, write_twix, monkeypatch):
    path = write_twix([(list(lines_of(scan.kspace())), protocol(scan))])
    monkeypatch.setitem(sys.modules, "twixtools", None)
    with pytest.raises(ConfigError, match=r'needs the package twixtools; install it by: pip install "invdiff\[raw\]"'):
        importer.read(path)
