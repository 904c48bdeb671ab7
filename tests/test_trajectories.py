"""Where k-space is sampled: spokes, spheres, spirals, stacks, files; and acquisitions that measure there."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, cKDTree

from invdiff import config, measurements, trajectories
from invdiff.acquisitions import MRI, Radial, Spiral, Trajectory
from invdiff.acquisitions.noncartesian import estimated_maps, full_radius
from invdiff.errors import ConfigError, FileError
from invdiff.operators import NUFFT
from invdiff.reconstruction import reconstruct
from invdiff.simulation import simulate
from invdiff.solvers import CG, Direct
from invdiff.space import Space
from invdiff.volumes import load

SHAPE, VOLUME = (48, 40), (12, 10, 8)


def error(measurement, scan, solver):
    return float((reconstruct(measurement, solver).mean.data - scan.data).norm() / scan.data.norm())


@pytest.mark.parametrize("golden", [False, True])
def test_spokes_go_through_dc_and_fill_the_unit_cell(golden):
    k = trajectories.radial(SHAPE, 7, 20, golden=golden).unflatten(0, (7, 20))
    assert k.dtype == torch.float64
    assert torch.equal(k[:, 10], torch.zeros(7, 2).double())
    torch.testing.assert_close(k.diff(dim=1), k.diff(dim=1)[:, :1].expand(-1, 19, -1))  # straight, evenly sampled
    radius = (k / torch.tensor([24.0, 20.0])).norm(dim=-1)
    torch.testing.assert_close(radius[:, 0], torch.ones(7).double())
    angle = torch.atan2(*(k[:, -1] / torch.tensor([24.0, 20.0])).unbind(-1))
    step = torch.remainder(angle.diff(), math.pi)
    want = math.radians(111.246118) if golden else math.pi / 7
    torch.testing.assert_close(step, torch.full((6,), want).double(), rtol=1e-7, atol=1e-7)


def test_readouts_have_two_samples_per_cycle():
    assert len(trajectories.radial(SHAPE, 3)) == 3 * 96
    assert len(trajectories.koosh_ball(VOLUME, 3)) == 3 * 24
    k = trajectories.spiral((40, 40), 5, 3.0).unflatten(0, (5, -1))
    torch.testing.assert_close(k.diff(dim=1).norm(dim=-1)[:, 3:].max().item(), 0.5, rtol=0.01, atol=0)


def test_golden_means_spread_spokes_over_the_sphere():
    """As evenly as chance would not: the largest gap between neighbours, both ends of each spoke."""
    k = trajectories.koosh_ball((20, 20, 20), 400, 2).unflatten(0, (400, 2))[:, 0] / 10
    torch.testing.assert_close(k.norm(dim=1), torch.ones(400).double())
    ends = torch.cat([k, -k]).numpy()
    faces = ends[ConvexHull(ends).simplices].mean(1)
    gap = cKDTree(ends).query(faces / np.linalg.norm(faces, axis=1, keepdims=True))[0].max()
    assert gap < 1.6 * math.sqrt(4 * math.pi / 800)
    octants = np.unique(ends > 0, axis=0, return_counts=True)[1]
    assert octants.max() / octants.min() < 1.1


@pytest.mark.parametrize(("density", "power"), [(1.0, 1.0), (2.0, 2.0)])
def test_spirals_are_interleaved_and_as_dense_as_asked(density, power):
    k = trajectories.spiral((60, 60), 4, 5.0, 4000, density=density).unflatten(0, (4, 4000)) / 30
    radius, angle = k.norm(dim=-1), np.unwrap(torch.atan2(*k.unbind(-1)).numpy(), axis=1)
    assert float(radius[:, 0].max()) == 0
    assert float(radius[:, -1].min()) == pytest.approx(1, abs=1e-3)
    turned = (angle[0, 1000:] - angle[0, 1000]) + angle[0, 1000] % (2 * math.pi)
    turns = (turned - turned[-1]) / (2 * math.pi) + 5
    np.testing.assert_allclose(radius[0, 1000:], (turns / 5) ** power, atol=2e-3)
    quarter = torch.stack([k[0, :, 1], -k[0, :, 0]], -1)  # by 90 degrees
    assert min(float((quarter - k[i]).abs().max()) for i in (1, 3)) < 1e-9


def test_stacks_repeat_the_plane_in_each_partition():
    star = trajectories.radial((12, 10), 3)
    k = trajectories.stack(star, 5).unflatten(0, (5, -1))
    assert torch.equal(k[..., :2], star.expand(5, -1, -1))
    assert k[:, 0, 2].tolist() == [-2, -1, 0, 1, 2]
    assert trajectories.stack(star, 4)[:: len(star), 2].tolist() == [-2, -1, 0, 1]


@pytest.mark.parametrize(
    "k",
    [
        trajectories.radial(SHAPE, 9),
        trajectories.spiral(SHAPE, 3, 2.0),
        trajectories.koosh_ball(VOLUME, 9),
        trajectories.stack(trajectories.spiral(VOLUME[:2], 3, 2.0), VOLUME[2]),
    ],
)
def test_they_stay_in_the_unit_cell(k):
    shape = SHAPE if k.shape[1] == 2 else VOLUME
    assert len(NUFFT(Space((1, *shape), torch.complex64), k).trajectory) == len(k)


def test_files_come_back(tmp_path):
    k = np.random.default_rng(0).uniform(-5, 5, (4, 6, 2)).astype(np.float32)
    np.save(tmp_path / "k.npy", k)
    assert torch.equal(trajectories.load(tmp_path / "k.npy"), torch.from_numpy(k.reshape(24, 2)).double())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; check the name"),
        (b"not numpy", "no readable .npy file of numbers, perhaps truncated; save it by numpy.save"),
        (np.zeros((5, 4)), r"holds an array of shape \(5, 4\); a trajectory is \(samples, 2\) or \(samples, 3\)"),
        (np.zeros((5, 2), complex), "holds complex128 values; real numbers are needed"),
        (np.array([[{}, {}]], dtype=object), "no readable .npy file"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    path = tmp_path / "k.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(FileError, match=message):
        trajectories.load(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: trajectories.radial(SHAPE, 0), "at least 1 of its spokes, got 0"),
        (lambda: trajectories.koosh_ball(VOLUME, 2, 0), "at least 1 of its samples, got 0"),
        (lambda: trajectories.spiral(SHAPE, 0, 1.0), "at least 1 of its interleaves, got 0"),
        (lambda: trajectories.spiral(SHAPE, 1, -1.0), "turns > 0 and density > 0, got -1 and 1"),
        (lambda: trajectories.stack(trajectories.radial(SHAPE, 1), 0), "at least 1 of its partitions, got 0"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


ACQUISITIONS = [
    Radial(),
    Radial(golden=True, coils=3),
    Radial(image="real"),
    Radial(coils=3, coil_maps="adaptive"),
    Radial(dimension="stack", coils=2, spokes=24),
    Radial(dimension="3d", spokes=300, samples=60),
    Spiral(),
    Spiral(coils=3, density=2.0, coil_maps="adaptive"),
    Spiral(dimension="stack", acceleration=1.5),
]


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_measured_stored_and_reconstructed(acquisition, small_volume, tmp_path):
    scan = load(small_volume)
    m = simulate(scan, acquisition, noise=0.002)
    measurements.save(tmp_path / "y.h5", m)
    back = measurements.load(tmp_path / "y.h5")
    assert back.acquisition == acquisition
    problem = back.problem()
    assert problem.y.shape[1:] == problem.operator.range.shape
    assert problem.operator.problems == (4 if acquisition.coil_maps == "adaptive" else None)
    first = error(back, scan, Direct())
    best = error(back, scan, CG(iterations=8 if acquisition.volumetric else 20))
    assert best < (0.97 if acquisition.volumetric else 0.7) * first  # few steps, for speed
    assert first < (0.17 if acquisition.dimension != "3d" else 0.35)  # a tenth of the spokes of a full scan


def test_the_same_phase_as_in_cartesian_mri(small_volume):
    x = load(small_volume).data[:, None].movedim(-1, 0).flatten(0, 1)
    assert torch.equal(Radial(phase=0.7).to_unknown(x, 3), MRI(phase=0.7).to_unknown(x, 3))


def test_frames_of_volumes_share_their_phase():
    x = torch.rand(2, 1, 8, 7, 6)
    z = Radial(dimension="3d").to_unknown(x, 3)
    assert z.shape == (2, 2, 8, 7, 6)
    torch.testing.assert_close(torch.atan2(z[0, 1], z[0, 0]), torch.atan2(z[1, 1], z[1, 0]))


def test_acceleration_is_relative_to_nyquist():
    assert len(Radial(acceleration=1.0, samples=10).trajectory((64, 50))) == 101 * 10  # pi / 2 times 64
    assert len(Radial(acceleration=4.0, samples=10).trajectory((64, 50))) == 26 * 10
    assert len(Radial(dimension="3d", acceleration=2.0, samples=4).trajectory((10, 8, 4))) == 63 * 4
    assert len(Radial(dimension="stack", spokes=3, samples=4).trajectory((10, 8, 5))) == 5 * 12
    k = Spiral(acceleration=2.0, interleaves=4, samples=1000).trajectory((64, 64))[1:1000]
    angle = np.unwrap(torch.atan2(*k.unbind(-1)).numpy())
    radius = k.norm(dim=1).numpy()
    turn = np.interp([angle[-1], angle[-1] - 2 * math.pi], angle, radius)
    assert turn[0] - turn[1] == pytest.approx(4 * 2.0, rel=1e-3)  # four interleaves, neighbours 2 cycles apart


def test_a_trajectory_of_ones_own(small_volume, tmp_path):
    scan = load(small_volume)
    np.save(tmp_path / "k.npy", trajectories.radial(SHAPE, 60).numpy())
    acquisition = config.build(Trajectory, {"file": str(tmp_path / "k.npy")})
    m = simulate(scan, acquisition, noise=0.0)
    (tmp_path / "k.npy").unlink()
    assert error(m, scan, CG(iterations=10)) < 0.05
    with pytest.raises(ConfigError, match=r"no trajectory given: name a \.npy file"):
        simulate(scan, Trajectory())
    np.save(tmp_path / "k.npy", trajectories.koosh_ball(VOLUME, 3).numpy())
    with pytest.raises(ConfigError, match=r"k\.npy has 3 axes, dimension is 2d; give --dimension 3d"):
        simulate(scan, acquisition)
    np.save(tmp_path / "k.npy", 2 * math.pi * trajectories.radial(SHAPE, 3).numpy())
    with pytest.raises(ConfigError, match=r"beyond the unit cell.*give cycles per field of view"):
        simulate(scan, acquisition)


def test_the_full_middle_of_k_space():
    grid = torch.cartesian_prod(torch.arange(-20.0, 20), torch.arange(-20.0, 20))
    assert full_radius(grid) == 13  # as far as it matters
    assert full_radius(grid[grid.norm(dim=1) < 8]) == 8
    assert full_radius(grid[(grid - torch.tensor([3.0, 4.0])).abs().sum(1) > 0]) == 5
    y = torch.ones(1, 2, 4, dtype=torch.complex64)
    with pytest.raises(
        ConfigError, match=r"full middle of k-space, 4 cycles.*full up to 1.0; measure more there \(spi"
    ):
        estimated_maps(y, torch.zeros(4, 2), (8, 8))


def test_maps_found_in_the_middle_are_those_of_the_simulation(small_volume):
    """Up to the phase that no map can know: |sum conj(a) b| = 1 where there is signal."""
    scan = load(small_volume)
    true, found = (simulate(scan, Radial(coils=4, coil_maps=m), noise=0.005) for m in ("true", "adaptive"))
    a, b = true.maps["coils"], found.maps["coils"]
    assert b.shape == (4, 4, *SHAPE)
    signal = scan.data[0].movedim(-1, 0) > 0.2 * scan.data.max()
    overlap = (a.conj() * b).sum(1).abs()[signal]
    assert float(overlap.mean()) > 0.99
    assert float(overlap.min()) > 0.9
