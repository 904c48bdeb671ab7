"""x': what shares a volume's signal and not its noise."""

import numpy as np
import pytest
from dipy.denoise.patch2self import patch2self

from invdiff.denoising.pairing import nearest, paired, predicted, windows
from invdiff_datasets.diffusion import gradient_table

from .conftest import SIGMA, array

LEVEL = np.full(22, SIGMA)


def test_predictions_are_regressions():
    """One by one, by least squares."""
    g = np.random.default_rng(0)
    rows = g.standard_normal((200, 6)) @ g.standard_normal((6, 6)) + 3
    found = predicted(rows, np.zeros(6))
    for v in range(6):
        others = np.c_[np.delete(rows, v, axis=1), np.ones(200)]
        want = others @ np.linalg.lstsq(others, rows[:, v], rcond=None)[0]
        np.testing.assert_allclose(found[:, v], want, atol=1e-10)


def test_noiseless_low_rank_is_reproduced():
    g = np.random.default_rng(1)
    rows = g.standard_normal((500, 4)) @ g.standard_normal((4, 12))
    np.testing.assert_allclose(predicted(rows, np.full(12, 1e-9)), rows, atol=1e-5)


def test_of_noise_alone_little_is_left():
    """Variance V / n of the input's: what the coefficients learned from it."""
    rows = np.random.default_rng(2).standard_normal((4000, 20))
    assert predicted(rows, np.zeros(20)).var() == pytest.approx(19 / 4000, rel=0.2)


def test_the_same_as_dipys_patch2self(series):
    """Its first version, but for the mean of each volume, which that loses; fitted to weighted volumes alone."""
    weighted = ~series.gradients.b0
    x = np.ascontiguousarray(series.data[..., weighted])
    ours = paired("patch2self", x, LEVEL[weighted], series.gradients.rows(weighted))
    theirs = patch2self(x, series.gradients.bvals[weighted], model="ols", version=1, shift_intensity=False)
    axes = (0, 1, 2)
    np.testing.assert_allclose(ours - ours.mean(axes), theirs - theirs.mean(axes), atol=0.02 * SIGMA)


@pytest.mark.parametrize(("kind", "most", "leak"), [("patch2self", 0.75, 0.01), ("local", 0.5, 0.12)])
def test_the_noise_of_a_volume_does_not_enter(kind, most, leak, series, phantom):
    other = paired(kind, series.data, LEVEL, series.gradients)
    inside = series.mask
    error, noise = (other - array(phantom.series))[inside], (series.data - array(phantom.series))[inside]
    assert error.std() < most * SIGMA
    assert (error * noise).mean() < leak * SIGMA**2


def test_other_volumes(series):
    before = paired("previous-volume", series.data, LEVEL, series.gradients)
    np.testing.assert_array_equal(before[..., 3], series.data[..., 2])
    np.testing.assert_array_equal(before[..., 0], series.data[..., -1])
    table = gradient_table({1000: 12, 2000: 12}, b0=3)
    index = nearest(table)
    assert (index != np.arange(len(table))).all()
    assert (abs(table.bvals[index] - table.bvals) < 1).all(), "of the same shell"
    along = abs((table.bvecs[index] * table.bvecs).sum(1))[~table.b0]
    same = np.equal.outer(table.bvals, table.bvals) & ~np.eye(len(table), dtype=bool)
    best = np.where(same, abs(table.bvecs @ table.bvecs.T), -1).max(1)[~table.b0]
    np.testing.assert_allclose(along, best)


def test_windows_cover_all_and_are_large_enough():
    for shape, voxels in (((20, 16, 6), 300), ((40, 40, 2), 1200), ((5, 5, 5), 10_000)):
        seen = np.zeros(shape, int)
        for window in windows(shape, voxels):
            seen[window] += 1
        assert seen.min() > 0
    sizes = [np.prod([s.stop - max(0, s.start) for s in w]) for w in windows((40, 40, 2), 1200)]
    assert max(sizes) >= 600, "both slices count once, though the window is cut at them"
