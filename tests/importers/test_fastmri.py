"""fastMRI files: axes, padding, masks, headers, coil maps, noise; from the file to an image that is right."""

import json

import h5py
import numpy as np
import pytest
import torch

from invdiff import measurements, volumes
from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.importers import fastmri as importer
from invdiff.importers.common import measurement
from invdiff.importers.level import Level


def relative(got, want):
    return float(torch.linalg.vector_norm(got - want) / torch.linalg.vector_norm(want))


def centre_and_every_third(n):
    lines = np.arange(n) % 3 == 0
    lines[n // 2 - 8 : n // 2 + 8] = True
    return lines


@pytest.mark.parametrize("maps", ["espirit", "adaptive"])
def test_from_the_file_to_an_image_close_to_the_truth(maps, scan, fastmri, xml, tmp_path, cli):
    lines = centre_and_every_third(48)
    path = fastmri(scan.kspace(sigma=5.0) * lines, xml(), mask=lines)
    y, recon = tmp_path / "y.h5", tmp_path / "recon.nii.gz"
    cli("import", "fastmri", path, "-o", y, "--maps", maps)
    m = measurements.load(y)
    assert (m.acquisition.pattern, m.acquisition.coils, m.shape, m.axis) == ("given", 4, (1, 48, 40, 4), 2)
    assert m.acquisition.coil_maps == maps
    assert m.acquisition.acceleration == pytest.approx(48 / lines.sum())
    np.testing.assert_array_equal(m.maps["lines"], np.fft.ifftshift(lines))
    assert tuple(m.maps["coils"].shape) == (4, 4, 48, 40)
    assert m.noise.sigma == pytest.approx(5, rel=0.1)
    cli("reconstruct", y, "-o", recon, "--solver", "cg")
    got = volumes.load(recon)
    np.testing.assert_allclose(got.spacing, scan.spacing, rtol=1e-5)
    want = torch.from_numpy(np.abs(scan.image)).permute(1, 2, 0)
    body = want > 0.1 * want.max()
    assert relative(got.data[0][body], want[body]) < 0.05
    facts = json.loads((tmp_path / "recon.json").read_text())
    assert facts["measurement"]["noise_from"] == "edge of k-space"
    assert facts["measurement"]["coil_maps"] == maps
    assert "secret" not in json.dumps(facts)
    # Adaptive maps have the resolution of the calibration region: at this noise level their error shows.
    assert 0.5 < facts["data_fit"]["mean"]["chi2"] < {"espirit": 1.5, "adaptive": 3}[maps]


def test_a_single_coil_file_keeps_its_numbers(scan, fastmri, xml):
    k = scan.kspace().sum(1)  # (slices, readout, phase)
    m = measurement(importer.read(fastmri(k, xml())))
    assert set(m.maps) == {"lines"}
    assert bool(m.maps["lines"].all())
    image = torch.from_numpy(scan.coils.sum(1))
    want = torch.fft.fft2(image, norm="ortho").flatten(1)[:, None]
    torch.testing.assert_close(m.y, want.to(torch.complex64), rtol=1e-3, atol=1e-2)
    x = torch.complex(*m.operator().direct(m.y).unbind(1))
    torch.testing.assert_close(x, image.to(torch.complex64), rtol=1e-3, atol=0.05)


def test_lines_of_zeros_were_not_measured(scan, fastmri, xml):
    k = scan.kspace()
    k[..., :5] = 0
    k[..., -3:] = 0
    m = measurement(importer.read(fastmri(k, xml())), level=Level(sigma=1))
    lines = np.fft.fftshift(m.maps["lines"])
    assert lines[5:-3].all()
    assert not lines[:5].any()
    assert not lines[-3:].any()
    with_mask = measurement(importer.read(fastmri(k, xml(), mask=np.ones(48))), level=Level(sigma=1))
    torch.testing.assert_close(with_mask.maps["lines"], m.maps["lines"])


def test_a_zero_padded_readout_becomes_a_mask(scan, fastmri, xml):
    k = scan.kspace()
    k[:, :, :20] = 0
    m = measurement(importer.read(fastmri(k, xml())), level=Level(sigma=1))
    mask = np.fft.fftshift(m.maps["mask"])
    assert mask.shape == (48, 80)
    assert mask[:, 20:].all()
    assert not mask[:, :20].any()
    assert m.shape == (1, 48, 80, 4)


def test_levels_that_the_user_gives(scan, fastmri, xml):
    k = importer.read(fastmri(scan.kspace(), xml()))
    assert measurement(k, level=Level(sigma=2.5)).noise.sigma == 2.5
    m = measurement(k, level=Level(fraction=0.02))
    top = float(torch.from_numpy(np.abs(scan.image)).quantile(0.999))
    assert m.noise.sigma == pytest.approx(0.02 * top, rel=0.03)
    assert m.facts["noise_from"] == "given"


def test_without_a_header_the_voxel_size_is_asked_for(scan, fastmri, tmp_path, cli):
    path, y = fastmri(scan.kspace(), None), tmp_path / "y.h5"
    with pytest.raises(FileError, match=r"file1\.h5 has no field 'ismrmrd_header', so no voxel size; give --voxel"):
        importer.read(path)
    cli("import", "fastmri", path, "-o", y, "--voxel", "2,1.5,3")
    m = measurements.load(y)
    assert m.shape == (1, 48, 80, 4), "nothing tells that the readout is oversampled"
    assert volumes.from_header_bytes(m.header, torch.zeros(m.shape)).spacing == (2, 1.5, 3)


def test_a_mask_without_a_middle(scan, fastmri, xml):
    lines = np.arange(48) % 3 == 0
    with pytest.raises(
        ConfigError, match="no fully sampled middle of k-space, from which coil maps could be estimated"
    ):
        measurement(importer.read(fastmri(scan.kspace() * lines, xml())))


def test_a_mask_of_another_length(scan, fastmri, xml):
    with pytest.raises(ShapeError, match="the mask has 47 lines, k-space 48"):
        importer.read(fastmri(scan.kspace(), xml(), mask=np.ones(47)))


HEADERS = {
    "radial": ({"trajectory": "radial"}, ConfigError, r"has a radial trajectory; only Cartesian.*NUFFT\(space, traj"),
    "a negative size": ({"fov": (-1, 5, 5)}, FileError, "encodedSpace/fieldOfView_mm is .* correct it"),
    "no number": ({"fov": ("wide", 5, 5)}, FileError, "encodedSpace/fieldOfView_mm is no number"),
    "infinite": ({"fov": ("inf", 5, 5)}, FileError, "encodedSpace/fieldOfView_mm is inf; correct it"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_are_refused(case, scan, fastmri, xml):
    change, error, message = HEADERS[case]
    text = xml(trajectory="radial") if case == "radial" else xml().replace("<x>80</x>", "<x>80</x>")
    if "fov" in change:
        first = str(scan.fov[0])
        text = text.replace(f"<x>{first}</x>", f"<x>{change['fov'][0]}</x>")
    with pytest.raises(error, match=message):
        importer.read(fastmri(scan.kspace(), text))


def test_damaged_headers(scan, fastmri, xml):
    with pytest.raises(FileError, match="the ISMRMRD header is no XML"):
        importer.read(fastmri(scan.kspace(), xml()[:-9]))
    with pytest.raises(FileError, match="the header lacks encoding/trajectory"):
        importer.read(fastmri(scan.kspace(), xml(trajectory="")))
    body = xml()
    two = body.replace("</encoding>\n", "</encoding><encoding></encoding>\n")
    with pytest.raises(FileError, match="the header has 2 encodings, one is read"):
        importer.read(fastmri(scan.kspace(), two))


@pytest.mark.parametrize("bandwidth", ["0", "-1", "nan", "wide", ""])
def test_a_bandwidth_that_is_none(bandwidth, scan, fastmri, xml):
    with pytest.raises(FileError, match=r"the header's relativeReceiverNoiseBandwidth is .*; correct it"):
        importer.read(fastmri(scan.kspace(), xml(bandwidth=bandwidth)))


def test_a_centre_that_is_none(scan, fastmri, xml):
    with pytest.raises(FileError, match="encodingLimits/kspace_encoding_step_1/center is no number"):
        importer.read(fastmri(scan.kspace(), xml(centre="middle")))


def test_files_that_are_refused(scan, fastmri, xml, tmp_path):
    path = fastmri(scan.kspace(), xml())
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(FileError, match="no readable HDF5 file, perhaps truncated"):
        importer.read(path)
    with h5py.File(path, "w") as f:
        f["reconstruction_rss"] = np.ones(3)
    with pytest.raises(
        FileError, match="has no field 'kspace' but reconstruction_rss; a fastMRI file holds raw k-space"
    ):
        importer.read(path)
    with h5py.File(path, "w") as f:
        f["kspace/a"] = np.ones(3)
    with pytest.raises(FileError, match="kspace is a group, not an array"):
        importer.read(path)
    for values, found in ((np.ones((4, 5, 6)), "float64 with axes"), (np.ones((5, 6), complex), r"axes \(5, 6\)")):
        with pytest.raises(FileError, match=f"kspace is .*{found}"):
            importer.read(fastmri(values, xml()))
    k = scan.kspace()
    k[1, 2, 3, 4] = np.nan
    with pytest.raises(FileError, match=r"file1\.h5: k-space holds NaN or infinite values"):
        importer.read(fastmri(k, xml()))
    with pytest.raises(FileError, match=r"none\.h5: no such file"):
        importer.read(tmp_path / "none.h5")


def test_slices_with_lines_of_their_own(scan, fastmri, xml):
    k = scan.kspace()
    k[2, :, :, 0] = 0
    with pytest.raises(ShapeError, match="slice 2 of frame 0 was sampled differently"):
        measurement(importer.read(fastmri(k, xml())), level=Level(sigma=1))
