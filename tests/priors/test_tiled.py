"""Windows over a large image: nothing but a cover where voxels do not know each other, no seams where they do."""

import pytest
import torch

from invdiff.errors import ConfigError
from invdiff.priors import GaussianPrior, TiledPrior
from invdiff.rng import Rng
from invdiff.space import Space
from invdiff.testing.priors import check_prior, smooth_gaussian

LARGE = Space((1, 37, 29))
HOW = [{"overlap": 0}, {"overlap": 5}, {"overlap": 7, "taper": "uniform"}, {"shifts": True}]


def windows(side=16):
    return smooth_gaussian(side)


@pytest.mark.parametrize("how", HOW)
def test_voxels_that_do_not_know_each_other_see_no_tiles(how):
    small = GaussianPrior(torch.full((1, 16, 12), 0.3), torch.tensor(0.2))
    whole = GaussianPrior(torch.full(LARGE.shape, 0.3), torch.tensor(0.2))
    x, sigma = torch.randn((3, *LARGE.shape)), torch.tensor([0.1, 0.5, 2.0])
    tiled = TiledPrior(small, LARGE, **how)
    for step in range(3):
        torch.testing.assert_close(tiled.at(step, Rng([(0, 0)])).denoise(x, sigma), whole.denoise(x, sigma))
    check_prior(tiled, x, 0.05)


@pytest.mark.parametrize("space", [Space((1, 16, 16)), Space((1, 17, 40)), Space((1, 33, 16))])
def test_every_voxel_is_covered(space):
    for how in HOW:
        ones = GaussianPrior(torch.ones((1, 16, 16)), torch.tensor(1e-12))
        out = TiledPrior(ones, space, **how).denoise(torch.zeros((1, *space.shape)), torch.ones(1))
        torch.testing.assert_close(out, torch.ones_like(out))


def seams(prior, side=64):
    """How much rougher the denoised image is across borders of uncovered tiles than elsewhere, in per cent."""
    whole = smooth_gaussian(side)
    g = torch.Generator().manual_seed(0)
    x0 = whole.sample(torch.randn((16, 1, side, side), generator=g))
    z, sigma = x0 + 0.5 * torch.randn(x0.shape, generator=g), torch.full((16,), 0.5)
    jump = prior.denoise(z, sigma).diff(dim=2).abs().mean((0, 1, 3))
    return float(jump[15::16].mean() / jump.mean())


def test_overlap_takes_seams_away_and_hann_more_than_uniform():
    space = Space((1, 64, 64))
    none, uniform, hann = (
        seams(TiledPrior(windows(), space, **how))
        for how in ({"overlap": 0}, {"overlap": 8, "taper": "uniform"}, {"overlap": 8})
    )
    assert none > 1.3
    assert abs(uniform - 1) < abs(none - 1) / 2
    assert error(8, "hann") < error(8, "uniform") < error(0, "uniform")
    assert abs(hann - 1) < abs(none - 1) / 2


def error(overlap, taper, side=64):
    """Root mean square distance from the denoiser of the whole image, whose correlation is short."""
    whole = smooth_gaussian(side, cutoff=60.0 * 16)
    prior = TiledPrior(smooth_gaussian(16, cutoff=60.0), Space((1, side, side)), overlap=overlap, taper=taper)
    g = torch.Generator().manual_seed(0)
    x0 = whole.sample(torch.randn((16, 1, side, side), generator=g))
    z, sigma = x0 + 0.5 * torch.randn(x0.shape, generator=g), torch.full((16,), 0.5)
    return float((prior.denoise(z, sigma) - whole.denoise(z, sigma)).square().mean().sqrt())


def test_shifts_change_from_level_to_level_and_for_no_sample():
    prior = TiledPrior(windows(), Space((1, 64, 64)), shifts=True)
    assert prior.at(0, Rng([(0, 0)])).shift == prior.at(0, Rng([(7, 3)])).shift
    assert len({prior.at(k, Rng([(0, 0)])).shift for k in range(10)}) == 10
    assert len(prior.corners) == 16, "no window more than a cover"


@pytest.mark.parametrize(
    ("space", "how", "message"),
    [
        (Space((1, 12, 40)), {}, "1x12x40 float32 is smaller than a window, 1x16x16 float32; use the prior as it is"),
        (Space((2, 40, 40)), {}, "windows of 1x16x16 float32 do not tile 2x40x40 float32: other axes or channels"),
        (Space((1, 40, 40, 40)), {}, "do not tile 1x40x40x40"),
        (Space((1, 40, 40)), {"overlap": 16}, "overlap by 0 to 15 voxels, got 16"),
        (Space((1, 40, 40)), {"overlap": -1}, "overlap by 0 to 15 voxels, got -1"),
    ],
)
def test_refusals(space, how, message):
    with pytest.raises(ConfigError, match=message):
        TiledPrior(windows(), space, **how)
