"""BART's arrays, written by numpy."""

import numpy as np
import pytest
import torch

from invdiff.errors import FileError
from invdiff.importers.cfl import read
from invdiff.importers.common import measurement
from invdiff.importers.level import Level


def write(stem, array):
    """First dimension fastest, little-endian complex64, and a header of dimensions."""
    shape = array.shape + (1,) * (16 - array.ndim)
    stem.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n")
    np.asarray(array, "<c8").T.tofile(stem.with_suffix(".cfl"))
    return stem


def test_slices(scan, tmp_path):
    k = scan.kspace(factor=1)  # slices, coils, readout, phase
    array = np.zeros((40, 48, 1, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4), np.complex64)
    array[:, :, 0, :, 0, 0, 0, 0, 0, 0, 0, 0, 0, :] = k.transpose(2, 3, 1, 0)
    for given in (tmp_path / "k", tmp_path / "k.hdr", tmp_path / "k.cfl"):
        found = read(write(tmp_path / "k", array) and given, voxel=(2.0, 1.5, 3.0))
        np.testing.assert_array_equal(found.samples[0, ..., 0], k)
    m = measurement(found, level=Level(sigma=1))
    assert m.shape == (1, 48, 40, 4)
    x = m.operator().direct(m.y)
    got = torch.linalg.vector_norm(x, dim=1).numpy()
    assert np.linalg.norm(got - np.abs(scan.image)) < 0.05 * np.linalg.norm(got)


def test_a_volume_with_echoes_and_times(tmp_path):
    rng = np.random.default_rng(0)
    shape = (8, 6, 5, 2, 1, 3, 1, 1, 1, 1, 2)
    array = (rng.standard_normal((2, *shape)).T @ [1, 1j]).T.astype(np.complex64)
    found = read(write(tmp_path / "k", array), voxel=(2.0, 1.5, 3.0))
    assert tuple(found.samples.shape) == (6, 1, 2, 8, 6, 5)
    np.testing.assert_array_equal(found.samples[3, 0, 1, 2, 4, 3], array[2, 4, 3, 1, 0, 1, 0, 0, 0, 0, 1])
    assert found.fov == (8 * 1.5, 6 * 2, 5 * 3)


def test_refused(tmp_path):
    stem = write(tmp_path / "k", np.ones((4, 5, 1, 2), np.complex64))
    (tmp_path / "k.cfl").write_bytes((tmp_path / "k.cfl").read_bytes()[:-8])
    with pytest.raises(FileError, match=r"k\.cfl holds 39 numbers, its header says 40; copy or export it again"):
        read(stem)
    (tmp_path / "k.hdr").write_text("# Dimensions\nmany\n")
    with pytest.raises(FileError, match=r"k\.hdr is no BART header"):
        read(stem)
    (tmp_path / "k.hdr").write_text("# Dimensions\n4 0 5\n")
    with pytest.raises(FileError, match=r"k\.hdr has dimensions \[4, 0, 5\]; 1 to 16 positive ones"):
        read(stem)
    (tmp_path / "k.hdr").unlink()
    with pytest.raises(FileError, match=r"k\.hdr: no such file; BART's arrays are pairs"):
        read(stem)
    with pytest.raises(FileError, match=r"j\.cfl: no such file"):
        read(tmp_path / "j")
    write(stem, np.ones((4, 5, 1, 2, 3), np.complex64))
    with pytest.raises(FileError, match="has 3 along 4; k-space of read, phases, coils"):
        read(stem)
    write(stem, np.full((4, 5, 1, 2), np.nan, np.complex64))
    with pytest.raises(FileError, match="k-space holds NaN"):
        read(stem)
