"""Fourier samples off the grid against torchkbnufft and sigpy, which stay out of the development environment.

Both have their origin at pixel n // 2, as `make oracles` runs them.
"""

import math

import numpy as np
import pytest
import sigpy
import torch
import torchkbnufft
from sigpy.mri import pipe_menon_dcf

from invdiff import trajectories
from invdiff.operators import NUFFT
from invdiff.operators.gridding import density
from invdiff.space import Space

BACKENDS = ["finufft", "gridding"]
SHAPES = [(40, 33), (20, 16, 11)]


def case(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, 2, *shape), generator=generator, dtype=torch.complex64)
    sizes = torch.tensor(shape)
    k = (torch.rand((500, len(shape)), generator=generator, dtype=torch.float64) - 0.5) * sizes
    middle = torch.exp(2j * math.pi * (k * (sizes // 2) / sizes).sum(1)).to(x.dtype)
    return x, k, middle


def relative(got, want):
    return float((got - want).norm() / want.norm())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_sigpys(shape, backend):
    x, k, middle = case(shape)
    A = NUFFT(Space((2, *shape), x.dtype), k, backend=backend)
    want = torch.from_numpy(sigpy.nufft(x[0].numpy(), k.numpy(), oversamp=2, width=7))
    assert relative(A(x)[0] * middle, want) < 1e-3  # a kernel from a table
    back = torch.from_numpy(sigpy.nufft_adjoint(want.numpy(), k.numpy(), oshape=(2, *shape), oversamp=2, width=7))
    assert relative(A.adjoint(want[None] * middle.conj())[0], back) < 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchkbnuffts(shape, backend):
    x, k, middle = case(shape)
    A = NUFFT(Space((2, *shape), x.dtype), k, backend=backend)
    omega = (2 * math.pi * k / torch.tensor(shape)).T.float()
    root = math.prod(shape) ** 0.5
    want = torchkbnufft.KbNufft(im_size=shape)(x, omega) / root
    assert relative(A(x) * middle, want) < 2e-3
    back = torchkbnufft.KbNufftAdjoint(im_size=shape)(want, omega) / root
    assert relative(A.adjoint(want * middle.conj()), back) < 2e-3


def test_density_is_sigpys():
    """The same fixed point with another kernel: equal away from DC and the edge."""
    n = 64
    k = trajectories.radial((n, n), 101).numpy()
    radius = np.linalg.norm(k, axis=1)
    ring = (radius > 4) & (radius < n / 2 - 4)
    ours = density(k, (n, n))[ring]
    theirs = np.abs(pipe_menon_dcf(k, (n, n), max_iter=30, show_pbar=False))[ring]
    ratio = ours / theirs
    assert ratio.std() < 0.05 * ratio.mean()
