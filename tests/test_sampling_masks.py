"""Sampling patterns: exact budgets, full calibration regions, the densities and distances they promise."""

import math
import time

import pytest
import torch
from scipy.spatial import cKDTree

from invdiff.acquisitions import sampling

LINES = {
    "random": sampling.random_lines, "equispaced": sampling.equispaced_lines, "gaussian": sampling.gaussian_lines
}  # fmt: skip
POINTS = {
    "random": sampling.random_points, "gaussian": sampling.gaussian_points, "poisson": sampling.poisson_points
}  # fmt: skip


def frequency(n):
    k = torch.arange(n)
    return torch.where(k < (n + 1) // 2, k, k - n)


@pytest.mark.parametrize("n", [64, 91, 128])
@pytest.mark.parametrize("acceleration", [1.0, 2.5, 4.0, 8.0])
@pytest.mark.parametrize("pattern", LINES)
def test_lines_keep_the_budget_and_the_middle(pattern, acceleration, n):
    mask = LINES[pattern](n, acceleration, 0.08, 3)
    assert (mask.dtype, mask.shape) == (torch.bool, (n,))
    assert int(mask.sum()) == round(n / acceleration)
    middle = min(round(n / acceleration), round(0.08 * n))
    assert bool(mask[frequency(n).abs().argsort(stable=True)[:middle]].all())
    assert torch.equal(mask, LINES[pattern](n, acceleration, 0.08, 3))
    if acceleration > 1:
        assert not torch.equal(mask, LINES[pattern](n, acceleration, 0.08, 4))


@pytest.mark.parametrize("shape", [(64, 48), (91, 33)])
@pytest.mark.parametrize("acceleration", [1.0, 4.0, 12.0])
@pytest.mark.parametrize("pattern", POINTS)
def test_points_keep_the_budget_and_the_middle(pattern, acceleration, shape):
    mask = POINTS[pattern](shape, acceleration, 0.1, 3)
    assert int(mask.sum()) == round(mask.numel() / acceleration)
    rows, columns = (frequency(n).abs().argsort(stable=True)[: round(0.1 * n)] for n in shape)
    assert bool(mask[rows][:, columns].all())
    assert torch.equal(mask, POINTS[pattern](shape, acceleration, 0.1, 3))
    if acceleration > 1:
        assert not torch.equal(mask, POINTS[pattern](shape, acceleration, 0.1, 4))


@pytest.mark.parametrize("fraction", [0.5, 0.625, 0.75])
@pytest.mark.parametrize("pattern", LINES)
def test_partial_fourier_leaves_out_the_most_negative_lines(pattern, fraction):
    n = 96
    mask = LINES[pattern](n, 4.0, 0.08, 1, partial_fourier=fraction)
    assert int(mask.sum()) == 24
    left_out = n - round(fraction * n)
    assert not bool(mask[frequency(n).argsort()[:left_out]].any())
    full = LINES[pattern](n, 1.0, 0.08, 1, partial_fourier=fraction)
    assert int(full.sum()) == round(fraction * n), "all that may be measured, though the budget asks for more"
    points = sampling.random_points((n, 10), 4.0, 0.08, 1, partial_fourier=fraction)
    assert not bool(points[frequency(n).argsort()[:left_out]].any())


def test_random_lines_are_equally_likely():
    n, draws = 60, 2000
    counts = sum(sampling.random_lines(n, 4.0, 0.1, seed).double() for seed in range(draws))
    rest = counts[frequency(n).abs().argsort(stable=True)[6:]]
    p = 9 / 54
    z = (rest - draws * p) / math.sqrt(draws * p * (1 - p))
    assert float(z.abs().max()) < 4.5


def test_equispaced_lines_are_evenly_spread():
    k = sampling.equispaced_lines(128, 4.0, 1 / 128, 0).nonzero()[:, 0]
    gaps = k.diff()
    assert int(gaps.max()) <= 5
    assert int(gaps[1:].min()) >= 3


def test_gaussian_points_have_their_density():
    """Of pairs of places the one nearer to DC is drawn more often, by the odds; few draws, so that odds are counts."""
    shape, draws = (41, 41), 1500
    counts = sum(
        sampling.gaussian_points(shape, 400.0, 1e-9, seed, width=0.2).double() for seed in range(draws)
    )  # DC and three more
    r2 = (frequency(41)[:, None] ** 2 + frequency(41) ** 2).double() / (0.2 * 41) ** 2
    weight = torch.exp(-r2 / 2)
    weight[0, 0] = 0
    near, far = (r2 > 0) & (r2 < 1), (r2 > 2) & (r2 < 6)
    ratio = float(counts[near].sum() / counts[far].sum())
    want = float(weight[near].sum() / weight[far].sum())
    assert ratio == pytest.approx(want, rel=0.1)


@pytest.mark.parametrize("growth", [0.0, 1.0])
def test_poisson_discs_keep_their_distance(growth):
    shape = (128, 96)
    mask = sampling.poisson_points(shape, 8.0, 0.02, 2, growth=growth)
    random = sampling.random_points(shape, 8.0, 0.02, 2)

    def nearest(m):
        points = torch.fft.fftshift(m).nonzero().double()
        centred = points - torch.tensor([n // 2 for n in shape])
        distance = torch.from_numpy(cKDTree(points.numpy()).query(points.numpy(), k=2)[0][:, 1])
        return distance, centred.norm(dim=1)

    distance, radius = nearest(mask)
    outside = radius > 6
    if not growth:
        assert float(distance[outside].min()) >= 2, "at 1 of 8 points, even discs reach over the next cell"
        assert float(nearest(random)[0].min()) == 1
    near, far = distance[outside & (radius < 25)].mean(), distance[radius > 45].mean()
    assert float(far / near) == pytest.approx(1.4 if growth else 1.0, abs=0.15)


def test_poisson_discs_are_quick():
    began = time.process_time()
    sampling.poisson_points((256, 192), 8.0, 0.08, 0)
    assert time.process_time() - began < 2  # 0.2 to 0.5 s


@pytest.mark.parametrize("n", [5, 9, 13, 101])
def test_half_of_an_odd_number_of_lines_holds_dc(n):
    for pattern in LINES:
        assert LINES[pattern](n, 2.0, 0.04, 0, partial_fourier=0.5)[0], pattern
