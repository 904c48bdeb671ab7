"""x': what shares a volume's signal and not its noise."""

import numpy as np
import pytest
from dipy.denoise.patch2self import patch2self

from invdiff.denoising.pairing import nearest, paired, predicted, regressed, windows
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


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_noise_alone_is_flat(ridge):
    """A regression would keep 20 / 500 of its variance; F is near 1, and most columns come out as their mean."""
    rows = 7 + np.random.default_rng(2).standard_normal((500, 20))
    found = predicted(rows, np.full(20, ridge))
    assert (found - found.mean(0)).std() < 0.2 * (20 / 500) ** 0.5
    np.testing.assert_allclose(found.mean(0), rows.mean(0), atol=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 0.1, 0.5, 2.0])
def test_f_is_1_of_noise(ridge):
    g = np.random.default_rng(4)
    noise = (g.standard_normal((300, 8)) for _ in range(200))
    ratios = [regressed(rows - rows.mean(0), np.full(8, ridge))[1] for rows in noise]
    assert np.mean(ratios) == pytest.approx(1, abs=0.15), "V counts the column itself: by 1 / V too many"


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


def test_larger_windows_know_less_of_the_noise(series, phantom):
    inside, noise = series.mask, series.data - array(phantom.series)
    leaks = []
    for voxels in (3, 12, 60):
        other = paired("local", series.data, LEVEL, series.gradients, voxels)
        leaks.append(((other - array(phantom.series))[inside] * noise[inside]).mean() / SIGMA**2)
    assert leaks[0] > 1.5 * leaks[1] > 2 * leaks[2] > 0


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
    for shape, voxels in (((20, 16, 6), 300), ((40, 40, 2), 1200), ((5, 5, 5), 10_000), ((9, 1, 1), 4)):
        seen = np.zeros(shape, int)
        for window in windows(shape, voxels):
            assert seen[window].size >= min(voxels, np.prod(shape)), "at the borders too"
            seen[window] += 1
        assert seen.min() > 0
