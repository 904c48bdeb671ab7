"""Total variation across slices: adjoint, fixed point, and DDS-3D on a Gaussian volume."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize

from invdiff.errors import CapabilityError
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity, Mask
from invdiff.priors import GaussianPrior, SlicewisePrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers.dds3d import DDS3D
from invdiff.solvers.mbir import DiffusionMBIR
from invdiff.solvers.ztv import SliceTV
from invdiff.space import Space

SPACE = Space((1, 3, 2, 8), torch.float64)


def steps(**how):
    return SliceTV(Identity(SPACE), y(), 2, **{"gamma": 1.0, "lam": 0.2, "rho": 0.7, "iterations": 30} | how)


def y():
    g = torch.Generator().manual_seed(0)
    return torch.randn((2, *SPACE.shape), generator=g).double()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_transpose_is_one(axis):
    tv = SliceTV(Identity(SPACE), y(), axis, gamma=1.0, lam=1.0, rho=1.0, iterations=1)
    x, g = y(), torch.Generator().manual_seed(1)
    v = torch.randn(tv.difference(x).shape, generator=g).double()
    assert float((tv.difference(x) * v).sum()) == pytest.approx(float((x * tv.back(v)).sum()), rel=1e-12)


def test_the_ends_of_a_volume_are_not_neighbours():
    tv, x = steps(), torch.zeros((1, *SPACE.shape)).double()
    x[..., 0] = 1.0
    assert tv.difference(x).abs().sum() == 6, "one jump for each of 3 x 2 voxels, none across the border"


def test_without_weight_it_ends_at_the_data():
    tv, x = steps(lam=0.0), torch.zeros((2, *SPACE.shape)).double()
    for _ in range(200):
        x = tv(x)
    torch.testing.assert_close(x, y(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("iterations", [1, 30])
def test_its_fixed_point_is_one_dimensional_total_variation(iterations):
    """With one step of conjugate gradients too, as DiffusionMBIR takes."""
    tv, x = steps(iterations=iterations), torch.zeros((2, *SPACE.shape)).double()
    for _ in range(2000):
        x = tv(x)
    for b, i, j in ((0, 0, 0), (0, 2, 1), (1, 1, 0)):
        torch.testing.assert_close(x[b, 0, i, j], denoised(y()[b, 0, i, j], 0.2), atol=1e-4, rtol=0)


def denoised(line, lam):
    """min 1/2 |x - y|^2 + lam |D x|_1 by its dual, a box-constrained least-squares problem: x = y - D^T p."""
    line = line.numpy()
    n = len(line) - 1

    def back(p):
        out = torch.zeros(n + 1).double().numpy()
        out[1:] += p
        out[:-1] -= p
        return out

    def objective(p):
        r = line - back(p)
        return 0.5 * (r**2).sum(), -(r[1:] - r[:-1])

    p = minimize(
        objective,
        [0.0] * n,
        jac=True,
        bounds=[(-lam, lam)] * n,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10},
    ).x
    return torch.from_numpy(line - back(p))


@pytest.mark.parametrize("solver", [DDS3D(steps=30, rho=0.05), DiffusionMBIR(rho=0.05)], ids=lambda s: type(s).__name__)
def test_total_variation_joins_what_slices_leave_apart(solver):
    """Truth constant along z, every second slice measured: total variation fills the others."""
    g = torch.Generator().manual_seed(0)
    plane = GaussianPrior(
        torch.full((1, 6, 6), 0.4).double(), torch.tensor(0.04).double(), sigma_min=0.002, sigma_max=20.0
    )
    space = Space((1, 6, 6, 8), torch.float64)
    prior = SlicewisePrior(plane, space, 2)
    truth = plane.sample(torch.randn((1, 1, 6, 6), generator=g).double())[..., None].expand(1, *space.shape)
    A = Mask(space, (torch.arange(8) % 2 == 0).expand(6, 6, 8))
    problem = InverseProblem(A, GaussianNoise(0.01), A(truth.contiguous()))
    apart, tied = (solve(problem, prior, replace(solver, lam=lam), width=1).samples[0] for lam in (0.0, 0.05))
    error = [float((x - truth).square().mean().sqrt()) for x in (apart, tied)]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize("solver", [DDS3D(), DiffusionMBIR()])
def test_slices_alone_are_refused(solver):
    plane = GaussianPrior(torch.zeros((1, 6, 6)), torch.tensor(1.0))
    problem = InverseProblem(Identity(plane.space), GaussianNoise(0.1), torch.zeros((1, 1, 6, 6)))
    with pytest.raises(CapabilityError, match=r"^D.* reconstructs whole volumes, not 1x6x6 .*e\.g\. --planes 2, or"):
        solve(problem, plane, solver)
