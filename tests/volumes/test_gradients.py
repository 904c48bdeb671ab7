import numpy as np
import pytest

from invdiff.errors import ConfigError, FileError
from invdiff.volumes.gradients import Gradients, load_gradients

BVALS = np.array([0.0, 5.0, 995.0, 1000.0, 1005.0, 2990.0, 3010.0])
BVECS = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0], [0, 0.6, -0.8]])


def write(folder, bvals, bvecs):
    np.savetxt(folder / "a.bval", bvals)
    np.savetxt(folder / "a.bvec", bvecs)
    return folder / "a.bval", folder / "a.bvec"


@pytest.mark.parametrize("rows", [True, False])
def test_both_layouts_are_read(rows, tmp_path):
    table = load_gradients(*write(tmp_path, BVALS[None] if rows else BVALS, BVECS.T if rows else BVECS))
    np.testing.assert_allclose(table.bvals, BVALS)
    np.testing.assert_allclose(table.bvecs, BVECS)
    assert table.b0.tolist() == [True, True] + 5 * [False]
    shells = table.shells()
    assert {b: index.tolist() for b, index in shells.items()} == {1000: [2, 3, 4], 3000: [5, 6]}


def test_three_volumes_are_read_as_fsl_has_them(tmp_path):
    table = load_gradients(*write(tmp_path, [1000.0] * 3, np.array([[1, 0.6, 0], [0, 0.8, 0], [0, 0, 1]])))
    np.testing.assert_allclose(table.bvecs[1], [0.6, 0.8, 0])


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="7 b-values and 6 directions; a volume has one of each"):
        Gradients(BVALS, BVECS[:6])
    with pytest.raises(ConfigError, match="some b-values or directions are negative or not finite"):
        Gradients(-BVALS, BVECS)
    with pytest.raises(ConfigError, match=r"2 directions are not of unit length, the first is 0.5 long, of volume 5 "):
        Gradients(BVALS, BVECS * np.array([1, 1, 1, 1, 1, 0.5, 2])[:, None])
    missing = tmp_path / "none.bval"
    with pytest.raises(FileError, match=r"cannot read .*none.bval: No such file"):
        load_gradients(missing, missing)
    (tmp_path / "text.bval").write_text("one two")
    with pytest.raises(FileError, match=r"text.bval is no table of numbers"):
        load_gradients(tmp_path / "text.bval", missing)
    files = write(tmp_path, BVALS, BVECS[:, :2])
    with pytest.raises(FileError, match="three rows or three columns, found 7 x 2"):
        load_gradients(*files)
    files = write(tmp_path, BVALS[:5], BVECS)
    with pytest.raises(ConfigError, match=r"a.bval, .*a.bvec: 5 b-values and 7 directions"):
        load_gradients(*files)
