"""Streaming mean and standard deviation against the two-pass ones, where sums of squares would lose every digit."""

import torch

from invdiff.moments import Moments


def test_far_from_zero():
    x = 1e3 + 1e-1 * torch.randn(50, 7, 3, generator=torch.Generator().manual_seed(0))
    found = Moments()
    for one in x:
        found.add(one)
    want = x.double()
    torch.testing.assert_close(found.mean.double(), want.mean(0), atol=3e-4, rtol=0)
    torch.testing.assert_close(found.std.double(), want.std(0), atol=0, rtol=2e-2)
    naive = ((x**2).mean(0) - x.mean(0) ** 2).clamp_min(0).sqrt()
    assert ((naive.double() - want.std(0)).abs() > 0.2 * want.std(0)).any(), "not a hard case"


def test_one_is_its_own_mean_and_opposites_cancel():
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    found = Moments(spread=False)
    found.add(x)
    assert torch.equal(found.mean, x)
    found.add(-x)
    assert found.mean.abs().max() < 1e-7
    assert found.squares.shape == ()
