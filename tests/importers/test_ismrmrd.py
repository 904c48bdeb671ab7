"""ISMRMRD files, written by the package ismrmrd: counters, flags, noise, places, volumes."""

import sys
from dataclasses import replace

import ismrmrd
import numpy as np
import pytest
import torch

from invdiff import measurements, volumes
from invdiff.errors import ConfigError, FileError
from invdiff.importers import ismrmrd as importer
from invdiff.importers.common import measurement
from invdiff.importers.level import Level

READ, PHASE, NORMAL = np.eye(3)[[1, 0, 2]]


def lines_of(kspace, *, normal=NORMAL, gap=5.0, **idx):
    """Acquisitions of k-space (slices, coils, readout, phase), in an order of their own; phase counts from 0."""
    slices, _, readout, phases = kspace.shape
    for s in np.random.default_rng(1).permutation(slices):
        for p in range(phases):
            settings = {
                "idx": {"kspace_encode_step_1": p, "slice": int(s), **idx},
                "center_sample": readout // 2, "sample_time_us": 5.0, "position": tuple(100 + s * gap * normal),
                "read_dir": tuple(READ), "phase_dir": tuple(PHASE), "slice_dir": tuple(normal),
            }  # fmt: skip
            yield kspace[s, :, :, p], settings, []


@pytest.fixture
def scan(scan):
    """Two of its slices: the package writes line by line, which takes its time."""
    return replace(scan, image=scan.image[:2], coils=scan.coils[:2])


def noise_lines(mixing, count=60, samples=256, seed=3):
    """Noise acquisitions: n = mixing @ white, unit variance per real component."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        white = rng.standard_normal((2, len(mixing), samples))
        yield mixing @ (white[0] + 1j * white[1]), {"sample_time_us": 10.0}, [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]


def test_from_the_file_to_an_image_close_to_the_truth(scan, write_ismrmrd, xml, tmp_path, cli):
    path = write_ismrmrd(list(lines_of(scan.kspace(sigma=5.0))), xml())
    y, recon = tmp_path / "y.h5", tmp_path / "recon.nii.gz"
    cli("import", "ismrmrd", path, "-o", y)
    assert measurements.load(y).noise.sigma == pytest.approx(5, rel=0.1)
    cli("reconstruct", y, "-o", recon, "--solver", "cg")
    volume = volumes.load(recon)
    want = np.abs(scan.image).transpose(1, 2, 0)
    assert np.linalg.norm(volume.data[0].numpy() - want) < 0.05 * np.linalg.norm(want)
    # Index (H // 2, W // 2) of slice 0 is the position, in RAS; the first axis runs along the phase direction.
    np.testing.assert_allclose(volume.affine @ [24, 20, 0, 1], [-100, -100, 100, 1], atol=1e-3)
    np.testing.assert_allclose(volume.affine @ [25, 20, 1, 1], [-100 - scan.spacing[0], -100, 105, 1], atol=1e-3)


def test_slices_are_sorted_by_place_not_by_number(scan, write_ismrmrd, xml):
    down = list(lines_of(scan.kspace(), gap=-5.0))
    m = measurement(importer.read(write_ismrmrd(down, xml())), level=Level(sigma=1))
    x = torch.linalg.vector_norm(m.operator().direct(m.y), dim=1).numpy()
    want = np.abs(scan.image)[::-1]
    assert np.linalg.norm(x - want) < 0.05 * np.linalg.norm(want)


def test_a_noise_scan_whitens_and_gives_the_level(scan, write_ismrmrd, xml):
    mixing = np.linalg.cholesky(np.array([[4, 1, 0, 1], [1, 2, 0.5, 0], [0, 0.5, 1, 0], [1, 0, 0, 3]]))
    rng = np.random.default_rng(0)
    k = scan.kspace()
    white = rng.standard_normal((2, *k.shape))
    # Twice the sampling rate of the noise scan: sqrt(2) times its noise. The receiver let through 79 % of it.
    k = k + np.sqrt(2 / 0.79) * np.einsum("dc,scrp->sdrp", mixing, white[0] + 1j * white[1])
    path = write_ismrmrd([*noise_lines(mixing), *lines_of(k)], xml(bandwidth=0.79))
    m = measurement(importer.read(path))
    assert m.facts["noise_from"] == "noise scan"
    mean = np.trace(mixing @ mixing.T) / 4
    assert m.noise.sigma == pytest.approx(np.sqrt(mean * 2 / 0.79), rel=0.02)
    x = m.operator().direct(m.y)
    residual = torch.view_as_real(m.y - m.operator()(x))
    assert float(residual.std()) == pytest.approx(m.noise.sigma, rel=0.2), "of 4 coils, 1 image was fitted"


def test_averages_repetitions_and_echoes(scan, write_ismrmrd, xml):
    k = [scan.kspace(seed=s, sigma=2.0) for s in range(3)]
    lines = [x for average in (0, 1) for x in lines_of(k[average], average=average)]
    found = importer.read(write_ismrmrd(lines, xml()))
    np.testing.assert_allclose(found.samples[0, ..., 0], (k[0] + k[1]) / 2, rtol=1e-4, atol=1e-3)
    lines = [*lines_of(k[0]), *lines_of(k[1], repetition=1), *lines_of(k[2], contrast=1)]
    found = importer.read(write_ismrmrd(lines, xml()))
    assert tuple(found.samples.shape) == (3, 2, 4, 80, 48, 1)
    for frame, want in enumerate((k[0], k[1], k[2])):
        np.testing.assert_allclose(found.samples[frame, ..., 0], want)
    m = measurement(found)
    assert m.shape == (3, 48, 40, 2)


def test_lines_measured_unequally_often_count_once(scan, write_ismrmrd, xml):
    k = scan.kspace()
    lines = list(lines_of(k))
    again = [(2 * data, dict(settings), flags) for data, settings, flags in lines_of(k)][:5]
    found = importer.read(write_ismrmrd(lines + again, xml()))
    np.testing.assert_allclose(found.samples[0, ..., 0], k)


def test_averages_lower_the_noise_that_the_noise_scan_tells(scan, write_ismrmrd, xml):
    lines = [x for average in (0, 1) for x in lines_of(scan.kspace(), average=average)]
    path = write_ismrmrd([*noise_lines(np.eye(4)), *lines], xml())
    assert measurement(importer.read(path)).noise.sigma == pytest.approx(np.sqrt(2 / 2), rel=0.02)


def test_what_is_no_image_data_is_left_out(scan, write_ismrmrd, xml):
    k = scan.kspace()
    junk = np.full((4, 80), 1e9)
    flags = (
        ismrmrd.ACQ_IS_NAVIGATION_DATA, ismrmrd.ACQ_IS_PHASECORR_DATA, ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA, ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
    )  # fmt: skip
    lines = [(junk, {"center_sample": 40}, [flag]) for flag in flags]
    found = importer.read(write_ismrmrd([*lines, *lines_of(k)], xml()))
    np.testing.assert_allclose(found.samples[0, ..., 0], k)


@pytest.mark.parametrize(("mode", "used"), [("embedded", 48), ("separate", 40)])
def test_calibration_lines_belong_to_the_image_only_if_embedded(mode, used, scan, write_ismrmrd, xml):
    lines = list(lines_of(scan.kspace()))
    for n, (_, settings, flags) in enumerate(lines):
        if n % 48 < 8:
            flags.append(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
        del settings
    found = importer.read(write_ismrmrd(lines, xml(calibration=mode)))
    assert int(found.measured[0, 0].sum()) == used


def test_reverse_readouts_and_useless_samples(scan, write_ismrmrd, xml):
    k = scan.kspace()
    lines = []
    for n, (data, settings, flags) in enumerate(lines_of(k)):
        if n % 2:
            lines.append((data[:, ::-1], settings | {"center_sample": 39}, [ismrmrd.ACQ_IS_REVERSE]))
        else:
            padded = np.pad(data, ((0, 0), (3, 2)), constant_values=1e9)
            lines.append((padded, settings | {"center_sample": 43, "discard_pre": 3, "discard_post": 2}, flags))
    found = importer.read(write_ismrmrd(lines, xml()))
    np.testing.assert_allclose(found.samples[0, ..., 0], k)


def test_partial_fourier_goes_to_its_place(scan, write_ismrmrd, xml):
    """The counter begins at 0 where the first line was measured; the header says at which line DC is."""
    k = scan.kspace()[..., 12:]
    found = importer.read(write_ismrmrd(list(lines_of(k)), xml(centre=24 - 12)))
    np.testing.assert_allclose(found.samples[0, ..., 12:, 0], k)
    assert found.measured[0, 0, :, 0].tolist() == [False] * 12 + [True] * 36


def test_a_volume_encoded_along_three_axes(scan, write_ismrmrd, xml):
    coils = scan.coils.transpose(1, 2, 3, 0)  # coils, phase, readout, partition
    coils = np.concatenate([f * coils for f in (0, 0, 0.5, 0.8, 1, 0.9, 0.6, 0.2, 0, 0)], axis=-1)  # 20 partitions
    wide = np.zeros((4, 48, 80, 20), complex)
    wide[:, :, 20:60] = coils
    axes = (1, 2, 3)
    k = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(wide, axes), axes=axes, norm="ortho"), axes)
    lines = []
    for z in range(20):
        for _, settings, flags in lines_of(k[..., z].transpose(0, 2, 1)[None], kspace_encode_step_2=z):
            p = settings["idx"]["kspace_encode_step_1"]
            if (p + z) % 2 == 0 or (abs(p - 24) < 8 and abs(z - 10) < 8):
                lines.append((k[:, p, :, z], settings, flags))
    fov = (scan.fov[0], scan.fov[1], 60.0)
    m = measurement(importer.read(write_ismrmrd(lines, xml(partitions=20, fov=fov))), level=Level(sigma=1))
    assert (m.shape, m.axis) == ((1, 48, 40, 20), 1)
    assert tuple(m.maps["mask"].shape) == (48, 20)
    assert tuple(m.maps["coils"].shape) == (40, 4, 48, 20)
    volume = m.volume(m.operator().pinv(m.y, iterations=30))
    want = torch.from_numpy(np.linalg.norm(coils, axis=0)).float()
    assert float((volume.data[0] - want).norm() / want.norm()) < 0.1
    np.testing.assert_allclose(volume.spacing, (*scan.spacing[:2], 3), rtol=1e-5)
    np.testing.assert_allclose(volume.affine @ [24, 20, 10, 1], [-100, -100, 100, 1], atol=1e-3)


def test_refused(scan, write_ismrmrd, xml, tmp_path, fastmri):
    k = scan.kspace()[:1]
    with pytest.raises(ConfigError, match="has a spiral trajectory; only Cartesian"):
        importer.read(write_ismrmrd(list(lines_of(k)), xml(trajectory="spiral")))
    with pytest.raises(FileError, match="holds no image data, only scans for noise"):
        importer.read(write_ismrmrd(list(noise_lines(np.eye(4), 2)), xml()))
    mixed = [*lines_of(k), *lines_of(k[:, :2])]
    with pytest.raises(FileError, match=r"has readouts of \[2, 4\] coils"):
        importer.read(write_ismrmrd(mixed, xml()))
    with pytest.raises(FileError, match="line 40 of partition 0 lies outside the encoded matrix of 48 x 1"):
        importer.read(write_ismrmrd(list(lines_of(k)), xml(centre=16)))
    wide = [(np.ones((4, 90)), {"center_sample": 45}, [])]
    with pytest.raises(FileError, match="a readout of 90 samples with DC at 45 does not fit 80 encoded samples"):
        importer.read(write_ismrmrd(wide, xml()))
    bad = k.copy()
    bad[0, 0, 0, 0] = np.inf
    with pytest.raises(FileError, match=r"scan\.h5: k-space holds NaN or infinite"):
        importer.read(write_ismrmrd(list(lines_of(bad)), xml()))
    path = write_ismrmrd(list(lines_of(k)), xml())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(FileError, match="no readable HDF5 file, perhaps truncated"):
        importer.read(path)
    with pytest.raises(FileError, match="is no ISMRMRD file"):
        importer.read(fastmri(k, xml()))
    with pytest.raises(FileError, match="no such file"):
        importer.read(tmp_path / "none.h5")


def test_trajectories_under_a_cartesian_header(scan, write_ismrmrd, xml):
    lines = [(data, s | {"trajectory": np.zeros((80, 2), np.float32)}, f) for data, s, f in lines_of(scan.kspace())]
    with pytest.raises(FileError, match="says Cartesian, but its readouts carry trajectories"):
        importer.read(write_ismrmrd(lines[:3], xml()))


def test_the_extra_is_named(scan, write_ismrmrd, xml, monkeypatch):
    path = write_ismrmrd(list(lines_of(scan.kspace()))[:3], xml())
    monkeypatch.setitem(sys.modules, "ismrmrd", None)
    with pytest.raises(ConfigError, match=r'needs the package ismrmrd; install it by: pip install "invdiff\[raw\]"'):
        importer.read(path)


def test_a_noise_scan_of_other_coils_is_not_this_scans(scan, write_ismrmrd, xml):
    other = list(noise_lines(np.eye(len(scan.coils) + 1), count=2))
    m = measurement(importer.read(write_ismrmrd([*other, *lines_of(scan.kspace(sigma=5.0))], xml())))
    assert m.facts["noise_from"] != "noise scan"
    assert m.noise.sigma == pytest.approx(5, rel=0.1)
