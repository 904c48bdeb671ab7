"""CT against closed forms, another library, itself in another geometry, and planted mistakes."""

import logging
import math
import sys

import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.filters import gaussian
from skimage.transform import iradon, resize

from invdiff import attenuation, cache
from invdiff.errors import ConfigError, ShapeError
from invdiff.operators import ConeBeam, FanBeam, Helical, ParallelRadon, filtered, joseph
from invdiff.space import Space

N = 96
SLICE = Space((1, N, N), torch.float64)
OFF = (N - 1) / 2 - N // 2  # the middle of the image, from the axis


def views(count, degrees):
    return np.arange(count) * math.radians(degrees) / count


@pytest.fixture(autouse=True)
def _nothing_on_disk(monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE_DIR", "off")


@pytest.fixture(scope="module")
def phantom():
    """A smooth head, (1, 1, N, N)."""
    head = gaussian(resize(shepp_logan_phantom(), (N, N), anti_aliasing=True), 1.0)
    return torch.from_numpy(head)[None, None]


@pytest.fixture(scope="module")
def disc():
    """A disc of radius 30 about (row, column) = (4, -6) from the axis, with a soft rim."""
    row, column = np.mgrid[:N, :N] - N // 2
    return torch.from_numpy(np.clip(30.5 - np.hypot(row - 4, column + 6), 0, 1))[None, None]


def chord(theta, t, radius=30.0):
    """Length of the line column cos - row sin = t inside the disc."""
    distance = t - (-6 * np.cos(theta) - 4 * np.sin(theta))
    return 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None)), np.abs(distance) < radius - 4


def joseph_by_hand(H, W, theta, t):
    """One ray, one pixel at a time."""
    row, c, s = np.zeros((H, W)), math.cos(theta), math.sin(theta)
    for i in range(H if abs(c) >= abs(s) else W):
        if abs(c) >= abs(s):
            across = (t + (i - H // 2) * s) / c + W // 2
        else:
            across = ((i - W // 2) * c - t) / s + H // 2
        for j in (math.floor(across), math.floor(across) + 1):
            where = (i, j) if abs(c) >= abs(s) else (j, i)
            if 0 <= where[0] < H and 0 <= where[1] < W:
                row[where] += (1 - abs(across - j)) / max(abs(c), abs(s))
    return row


def test_entries_are_josephs():
    angles = [0.0, 0.3, math.pi / 4, 1.2, math.pi / 2, 2.5, 4.0]
    A = ParallelRadon(Space((1, 7, 6), torch.float64), angles, 9, pitch=1.3, offset=0.4)
    want = [joseph_by_hand(7, 6, a, (d - 4 + 0.4) * 1.3).ravel() for a in angles for d in range(9)]
    np.testing.assert_allclose(A.matrix.to_dense().numpy(), want, atol=1e-12)
    assert joseph.entries(7, 6, A.rays) == pytest.approx(A.matrix.values().numel(), rel=0.3)


@pytest.mark.parametrize(("pitch", "offset"), [(1.0, 0.0), (0.6, 0.25), (1.7, -3.5)])
def test_a_disc_is_its_chord(pitch, offset, disc):
    A = ParallelRadon(SLICE, views(7, 360) + 0.1, pitch=pitch, offset=offset)
    D = A.range.shape[2]
    want, inner = chord(A.angles[:, None], (np.arange(D) - D // 2 + offset) * pitch)
    np.testing.assert_allclose(A(disc)[0, 0].numpy()[inner], want[inner], rtol=0.02)
    wrong, _ = chord(A.angles[:, None], (np.arange(D) - D // 2 - offset - 2) * pitch)
    assert np.abs(A(disc)[0, 0].numpy()[inner] - wrong[inner]).max() > 0.05 * want.max(), "a shift would be seen"


@pytest.mark.parametrize(("pitch", "offset"), [(None, 0.0), (0.9, 0.25), (2.2, -7.5)])
def test_a_disc_is_its_chord_in_a_fan(pitch, offset, disc):
    """Rays from the source to the cells, in plain geometry: distance of a line to a point."""
    R, L = 180.0, 300.0
    A = FanBeam(SLICE, views(7, 360) + 0.1, R, L, pitch=pitch, offset=offset)
    beta, D = A.angles[:, None], A.range.shape[2]
    u = (np.arange(D) - D // 2 + offset) * (L / R if pitch is None else pitch)
    source = -R * np.stack([np.cos(beta), np.sin(beta)])  # (row, column)
    cell = source + L * np.stack([np.cos(beta), np.sin(beta)]) + u * np.stack([-np.sin(beta), np.cos(beta)])
    along = (cell - source) / np.linalg.norm(cell - source, axis=0)
    to_disc = np.array([4.0, -6.0])[:, None, None] - source
    distance = to_disc[0] * along[1] - to_disc[1] * along[0]
    want, inner = 2 * np.sqrt(np.clip(30.0**2 - distance**2, 0, None)), np.abs(distance) < 26
    np.testing.assert_allclose(A(disc)[0, 0].numpy()[inner], want[inner], rtol=0.02)


def test_a_far_source_is_a_parallel_beam(phantom):
    fan = FanBeam(SLICE, views(9, 300), 1e7, 1e7, 139)
    parallel = ParallelRadon(SLICE, views(9, 300), 139)
    torch.testing.assert_close(fan(phantom), parallel(phantom), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", [60.0, 90.0])
def test_a_fan_sees_every_pixel_from_every_angle(source):
    space = Space((1, 60, 51), torch.float64)
    A = FanBeam(space, views(36, 360), source, 2 * source)
    wider = FanBeam(space, views(36, 360), source, 2 * source, A.range.shape[2] + 20)
    seen, all_there_is = (B.adjoint(torch.ones(1, *B.range.shape).double()) for B in (A, wider))
    torch.testing.assert_close(seen, all_there_is)


@pytest.mark.parametrize("window", ["ramp", "shepp-logan"])
def test_fbp_is_skimages(window, phantom):
    degrees = np.arange(0, 180, 1.5)
    A = ParallelRadon(SLICE, np.deg2rad(degrees), window=window)
    y = A(phantom)
    want = iradon(y[0, 0].numpy().T, degrees, N, filter_name=window, circle=False)
    np.testing.assert_allclose(A.direct(y)[0, 0].numpy(), want, atol=2e-6)


def test_hann_keeps_the_mean_and_lowers_the_noise(phantom):
    noise = torch.randn((1, 1, 120, 139), generator=torch.Generator().manual_seed(0)).double()
    spread = {w: float(ParallelRadon(SLICE, views(120, 180), window=w).direct(noise[..., :137]).std())
              for w in ("ramp", "shepp-logan", "hann")}  # fmt: skip
    assert spread["hann"] < 0.6 * spread["shepp-logan"] < 0.6 * spread["ramp"]
    smooth = torch.from_numpy(gaussian(phantom[0, 0].numpy(), 3))[None, None]
    A = ParallelRadon(SLICE, views(180, 180), window="hann")
    assert float((A.direct(A(smooth)) - smooth).abs().max()) < 0.02


GOLDEN = np.arange(200) * math.pi * (math.sqrt(5) - 1) / 2 % math.pi
SHORT = 180 + 2 * math.degrees(math.atan(90 / 190))
COMPLETE = {
    "parallel": lambda: ParallelRadon(SLICE, views(160, 180)),
    "parallel, a full turn": lambda: ParallelRadon(SLICE, views(320, 360)),
    "parallel, an odd full turn": lambda: ParallelRadon(SLICE, views(161, 360)),
    "parallel, too much": lambda: ParallelRadon(SLICE, views(170, 210)),
    "parallel, golden angle": lambda: ParallelRadon(SLICE, GOLDEN),
    "parallel, out of order": lambda: ParallelRadon(SLICE, np.random.default_rng(0).permutation(views(160, 180))),
    "parallel, fine and shifted": lambda: ParallelRadon(SLICE, views(160, 180), pitch=0.7, offset=2.3),
    "parallel, half the detector": lambda: ParallelRadon(SLICE, views(320, 360), 90, offset=30.25),
    "parallel, left half of the detector": lambda: ParallelRadon(SLICE, views(320, 360), 90, offset=-30.25),
    "fan": lambda: FanBeam(SLICE, views(320, 360), 190.0, 300.0),
    "fan, short scan": lambda: FanBeam(SLICE, views(230, SHORT), 190.0, 300.0),
    "fan, short scan from elsewhere": lambda: FanBeam(SLICE, views(230, SHORT) - 2, 190.0, 300.0),
    "fan, backwards": lambda: FanBeam(SLICE, -views(230, SHORT), 190.0, 300.0),
    "fan, overscan": lambda: FanBeam(SLICE, views(270, 300), 190.0, 300.0),
    "fan, fine and shifted": lambda: FanBeam(SLICE, views(320, 360), 190.0, 300.0, pitch=1.1, offset=0.25),
    "fan, half": lambda: FanBeam(SLICE, views(320, 360), 190.0, 300.0, 100, offset=30.25),
    "fan, left half": lambda: FanBeam(SLICE, views(320, 360), 190.0, 300.0, 100, offset=-30.25),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_fbp_gives_the_attenuation_back(name, phantom):
    """Within 1 % of the largest value inside the head, and 0.3 % in the mean; its rim is sharper than pixels tell."""
    A = COMPLETE[name]()
    error = (A.direct(A(phantom)) - phantom)[0, 0]
    row, column = np.mgrid[:N, :N] - N // 2
    brain = torch.from_numpy(((row / 34) ** 2 + (column / 24) ** 2 < 1).T | ((row / 30) ** 2 + (column / 20) ** 2 < 1))
    assert abs(float(error.sum() / phantom.sum())) < 0.003
    assert float(error[brain].square().mean().sqrt()) < 0.01 * float(phantom.max())


def test_each_weight_is_needed(phantom, monkeypatch):
    """Planted mistakes: a short scan, and half a detector, with the weights of a full one."""
    mistakes = {
        "fan, short scan": (
            "fan_weights",
            lambda a, g, side: np.full((len(a), len(g)), math.radians(SHORT) / 2 / len(a)),
        ),
        "fan, half": ("one_side", lambda u, needed: np.ones((2, len(u)))),
        "fan, left half": ("missing_cells", lambda u, needed: (0, 0)),
        "fan": ("ramp", lambda q, pitch, window: filtered.ramp(q, 1.02, window)),
    }
    for name, (what, wrong) in mistakes.items():
        A = COMPLETE[name]()
        good, y = A.direct(A(phantom)), A(phantom)
        with monkeypatch.context() as m:
            m.setattr(f"invdiff.operators.fanbeam.{what}", wrong)
            bad = A.direct(y)
        assert float((bad - phantom).norm()) > 1.15 * float((good - phantom).norm()), name


@pytest.mark.parametrize("arc", [215, 250, 300, 359, 360])
def test_lines_that_were_measured_twice_count_once(arc):
    """The weights of the two views of a line add up to one step, whatever the arc; views each quarter of a degree."""
    K, k = 4 * arc, np.arange(-60, 61, 20)
    gamma = np.radians(k / 4)
    beta = views(K, arc)
    w = filtered.fan_weights(beta, gamma, np.ones((2, 7))) / math.radians(0.25)
    again = (np.arange(K)[:, None] + 2 * k + 720) % 1440
    total = w + np.where(again < K, w[np.minimum(again, K - 1), np.arange(6, -1, -1)], 0)
    np.testing.assert_allclose(total, 1, atol=1e-9)
    assert float(np.abs(np.diff(w, axis=0)).max()) < 0.2, "smooth from view to view"


def test_a_limited_angle_is_what_it_is(phantom):
    A = ParallelRadon(SLICE, views(80, 90))
    weights, _, arc = filtered.quadrature(A.angles, math.pi)
    assert float(weights.sum()) == pytest.approx(arc) == pytest.approx(math.pi / 2)
    assert float(A.direct(A(phantom)).sum() / phantom.sum()) == pytest.approx(0.5, rel=0.02), "half of the angles"


def test_direct_is_linear_and_differentiable(phantom):
    for A in (ParallelRadon(SLICE, views(10, 180)), FanBeam(SLICE, views(10, 360), 190.0, 300.0)):
        y = A(phantom).requires_grad_()
        x = A.direct(y)
        (g,) = torch.autograd.grad((x * phantom).sum(), y)
        torch.testing.assert_close((g * y).sum(), (x * phantom).sum())
        torch.testing.assert_close(A.direct(torch.cat([y, 3 * y]))[1:], 3 * x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slabs_of_views_give_the_same_numbers(dtype, phantom):
    space = Space((1, N, N), dtype)
    x = torch.cat([phantom.to(dtype) * k for k in range(1, 18)])
    A = FanBeam(space, views(11, 360), 190.0, 300.0)
    slabs = FanBeam(space, views(11, 360), 190.0, 300.0, max_bytes=A.matrix.values().numel() * 8)
    assert slabs.matrix is None
    assert slabs.slab < 5
    y = A(x)
    torch.testing.assert_close(slabs(x), y, rtol=1e-6, atol=0)
    torch.testing.assert_close(slabs.adjoint(y), A.adjoint(y), rtol=2e-6, atol=1e-6 * float(A.adjoint(y).max()))
    torch.testing.assert_close(slabs.direct(y), A.direct(y), rtol=0, atol=0)


def test_operators_of_one_geometry_share_their_matrices():
    A, B = (ParallelRadon(Space((1, 20, 18)), views(5, 180)) for _ in range(2))
    other = ParallelRadon(Space((1, 20, 18)), views(5, 181))
    assert A.matrix is B.matrix
    assert A.transpose is B.transpose
    assert other.matrix is not A.matrix
    assert ParallelRadon(Space((1, 20, 18), torch.float64), views(5, 180)).matrix is not A.matrix


class TestCache:
    """Slow builds are kept on disk, and never trusted when damaged."""

    SPACE = Space((1, 20, 18))

    @pytest.fixture(autouse=True)
    def folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("INVDIFF_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setattr(joseph, "SLOW", 0.0)
        return tmp_path / "cache"

    def make(self):
        joseph._shared.clear()
        return ParallelRadon(self.SPACE, views(5, 180))

    def test_the_second_time_is_read(self, folder, monkeypatch):
        first = self.make()
        (path,) = folder.iterdir()
        assert path.suffix == ".npz"
        monkeypatch.setattr(joseph, "_build", lambda *a: pytest.fail("built again"))
        second = self.make()
        x = torch.rand(2, *self.SPACE.shape)
        assert torch.equal(first(x), second(x))
        assert torch.equal(first.adjoint(first(x)), second.adjoint(first(x)))

    @pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", "half", "flip", "fields"])
    def test_a_damaged_file_is_made_again(self, folder, damage, caplog):
        want = self.make().matrix.to_dense()
        (path,) = folder.iterdir()
        whole = path.read_bytes()
        if damage == "half":
            path.write_bytes(whole[: len(whole) // 2])
        elif damage == "flip":
            path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])
        elif damage == "fields":
            np.savez(path, other=np.zeros(3))
        else:
            path.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            assert torch.equal(self.make().matrix.to_dense(), want)
        assert path.read_bytes()[:4] == whole[:4]
        assert len(path.read_bytes()) == len(whole), "written again"

    def test_off_keeps_nothing(self, folder, monkeypatch):
        monkeypatch.setenv("INVDIFF_CACHE_DIR", "off")
        self.make()
        assert not folder.exists()

    def test_a_folder_that_cannot_be_written_is_no_error(self, folder, caplog):
        folder.write_text("a file")
        with caplog.at_level(logging.WARNING):
            self.make()
        assert "nothing is kept in" in caplog.text

    def test_fast_builds_are_not_kept(self, folder, monkeypatch):
        monkeypatch.setattr(joseph, "SLOW", 100.0)
        self.make()
        assert not folder.exists()

    def test_the_least_recently_used_make_room(self, folder, monkeypatch):
        monkeypatch.setattr(cache, "MAX_BYTES", 3000)
        for name in ("a", "b", "c"):
            cache.store(name, {"x": np.zeros(150)})
        assert cache.load("a") is None
        assert len(list(folder.iterdir())) == 2
        np.testing.assert_array_equal(cache.load("c")["x"], np.zeros(150))

    def test_the_users_folder_is_the_default(self, monkeypatch):
        monkeypatch.delenv("INVDIFF_CACHE_DIR")
        assert cache.folder().name == "invdiff"


# Volumes: 24 voxels along the axis, a ball and a smaller one.

BOX = Space((1, 32, 28, 24), torch.float64)


def positions(space=BOX):
    return torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in space.shape[1:]), indexing="ij"), -1)


def ball(centre, radius, space=BOX):
    return torch.sigmoid(3 * (radius - (positions(space) - torch.tensor(centre).double()).norm(dim=-1)))[None, None]


@pytest.fixture(scope="module")
def balls():
    return ball((2.0, -1.0, 0.0), 9.0) + 0.5 * ball((4.0, 3.0, 2.0), 4.0)


def test_a_gaussian_is_its_integral():
    """Along each line, from the source to a cell, exp(-distance^2 / (2 sd^2)) sqrt(2 pi) sd, in plain geometry."""
    R, L, sd, beta = 90.0, 150.0, 2.5, np.array([0.2, 1.7, 4.0])
    fine = Space((1, 64, 56, 48), torch.float64)
    A = ConeBeam(fine, beta, R, L, (31, 40), voxel=(0.5, 0.5, 0.5), cell=(1.9, 1.7), offset=0.25)
    centre = np.array([3.0, -2.0, 1.0])
    blob = torch.exp(-(positions(fine) / 2 - torch.from_numpy(centre)).square().sum(-1) / (2 * sd**2))
    got = A(blob[None, None])[0, 0].numpy()
    v, u = (np.arange(31) - 15) * 1.9, (np.arange(40) - 20 + 0.25) * 1.7
    for view, b in enumerate(beta):
        ray, across = np.array([np.cos(b), np.sin(b), 0]), np.array([-np.sin(b), np.cos(b), 0])
        to_cell = L * ray + u[:, None] * across + v[:, None, None] * np.array([0, 0, 1.0])
        along = to_cell / np.linalg.norm(to_cell, axis=-1, keepdims=True)
        distance = np.linalg.norm(np.cross(centre + R * ray, along), axis=-1)
        want = np.exp(-(distance**2) / (2 * sd**2)) * math.sqrt(2 * math.pi) * sd
        assert np.abs(got[view] - want).max() < 0.05 * want.max()
        assert np.abs(got[view] - want).mean() < 0.005 * want.max()
        assert np.abs(got[view] - np.roll(want, 1, 1)).max() > 0.2 * want.max(), "a shift would be seen"


def test_the_plane_of_the_source_is_a_fan(balls):
    """Siddon and Joseph differ by less than 1 % on smooth images."""
    angles = views(5, 300) + 0.3
    cone = ConeBeam(BOX, angles, 90.0, 150.0, (3, 41), cell=(1.0, 1.7), offset=0.25)
    fan = FanBeam(Space((1, 32, 28), torch.float64), angles, 90.0, 150.0, 41, pitch=1.7, offset=0.25)
    image = balls[..., 12]
    got = cone(image[..., None].expand(1, 1, 32, 28, 24).contiguous())[:, :, :, 1]
    want = fan(image)
    assert float((got - want).norm() / want.norm()) < 0.01


def test_voxels_in_mm_scale_as_they_should(balls):
    small = ConeBeam(BOX, [0.4, 2.0], 90.0, 150.0, (15, 31), cell=(2.0, 2.0))
    large = ConeBeam(BOX, [0.4, 2.0], 270.0, 450.0, (15, 31), voxel=(3, 3, 3), cell=(6.0, 6.0))
    torch.testing.assert_close(large(balls), 3 * small(balls))


def test_a_helix_that_does_not_rise_is_a_circle(balls):
    helix = Helical(BOX, 6, 1.0, 90.0, 150.0, (9, 31), feed=0.0, cell=(2.0, 2.0))
    circle = ConeBeam(BOX, helix.angles, 90.0, 150.0, (9, 31), cell=(2.0, 2.0))
    torch.testing.assert_close(helix(balls), circle(balls))


def test_a_helix_rises_along_the_third_axis():
    """A point at height z is seen in the middle row where the source has that height."""
    x = torch.zeros(1, *BOX.shape, dtype=torch.float64)
    x[..., 16, 14, 12 + 6] = 1
    A = Helical(BOX, 40, 4.0, 90.0, 150.0, (81, 3), feed=6.0, cell=(0.4, 40.0))
    v = torch.arange(81).double() - 40
    y = A(x)[0, 0].sum(-1)
    seen = (y @ v) / y.sum(-1).clamp_min(1e-9) * 0.4 * 90 / 150
    heights = torch.from_numpy(A.heights)
    near = (heights - 6).abs() < 4
    torch.testing.assert_close(seen[near], (6 - heights)[near], rtol=0, atol=0.13)


FILTERED = {
    "circle": lambda: ConeBeam(BOX, views(90, 360), 90.0, 140.0, (44, 48), cell=(1.5, 1.5)),
    "short scan": lambda: ConeBeam(BOX, views(60, 220), 90.0, 140.0, (44, 48), cell=(1.5, 1.5)),
    "half": lambda: ConeBeam(BOX, views(90, 360), 90.0, 140.0, (44, 34), cell=(1.5, 1.5), offset=9.25),
    "helix": lambda: Helical(BOX, 150, 4.0, 90.0, 140.0, (22, 48), feed=8.0, cell=(1.5, 1.5)),
}


@pytest.mark.parametrize("name", FILTERED)
def test_feldkamp_gives_the_attenuation_back(name, balls):
    A = FILTERED[name]()
    x = A.direct(A(balls))
    middle, want = x[..., 12], balls[..., 12]
    assert abs(float(middle.sum() / want.sum()) - 1) < 0.01
    assert abs(float(x.sum() / balls.sum()) - 1) < 0.02
    assert float((middle - want).square().mean().sqrt()) < 0.03
    inside = ball((2.0, -1.0, 0.0), 6.0)[..., 12] > 0.99
    assert abs(float(middle[inside].mean() / want[inside].mean()) - 1) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_own_kernels_are_diffcts(dtype):
    """What runs on the CPU gives the numbers of what runs on the GPU, forth and back."""
    space = Space((2, 9, 8, 7), dtype)
    circle = ConeBeam(
        space, views(5, 290) + 0.1, 15.0, 25.0, (9, 12), voxel=(1, 1.1, 0.9), cell=(1.7, 1.9), offset=0.25
    )
    helix = Helical(space, 11, 2.2, 15.0, 25.0, (6, 11), feed=-1.7, cell=(1.7, 1.9), offset=-1.25)
    for A in (circle, helix):
        x, y = (
            torch.randn(3, *s.shape, dtype=dtype, generator=torch.Generator().manual_seed(1)) for s in (space, A.range)
        )
        diffct = A._diffct(torch.device("cpu"))
        forth = diffct.project(x.transpose(2, 4)).transpose(3, 4)
        back = diffct.backproject(y.transpose(3, 4)).transpose(2, 4)
        tolerance = 1e-12 if dtype == torch.float64 else 3e-6
        assert float((A(x) - forth).abs().max() / forth.abs().max()) < tolerance
        assert float((A.adjoint(y) - back).abs().max() / back.abs().max()) < tolerance


def test_rays_along_the_grid_and_beside_it():
    """The chord of a square in closed form, rays that miss it included: nothing is lost or counted twice."""
    space = Space((1, 8, 8, 8), torch.float64)
    ones = torch.ones(1, *space.shape, dtype=torch.float64)
    A = ConeBeam(space, [0.0], 30.0, 60.0, (1, 60), cell=(1.0, 1.0))
    slope = (np.arange(60) - 30) / 60  # from x = -30 through [-4.5, 3.5]^2 about the axis
    side = np.where(slope > 0, 3.5, 4.5) / np.maximum(np.abs(slope), 1e-12)
    want = np.clip(np.minimum(33.5, side) - 25.5, 0, None) * np.sqrt(1 + slope**2)
    np.testing.assert_allclose(A(ones)[0, 0, 0, 0].numpy(), want, atol=1e-9)
    # Along planes between voxels each ray counts once: at 0, 90, 180 and 270 degrees, beside voxels by a half.
    for angle in range(4):
        B = ConeBeam(space, [angle * math.pi / 2], 30.0, 60.0, (1, 7), cell=(1.0, 2.0), offset=0.5)
        total = B(ones)[0, 0, 0, 0, 3]
        assert float(total) == pytest.approx(8, rel=0.01)
        near = B.adjoint(torch.ones(1, *B.range.shape, dtype=torch.float64))
        assert float(near.sum()) == pytest.approx(float(B(ones).sum()))


def test_the_number_of_threads_changes_nothing(balls):
    A = ConeBeam(BOX, views(7, 360), 90.0, 140.0, (20, 30), cell=(3.0, 3.0))
    threads = torch.get_num_threads()
    try:
        got = {}
        for n in (1, 3):
            torch.set_num_threads(n)
            got[n] = A(balls), A.adjoint(A(balls))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(got[1][0], got[3][0])
    torch.testing.assert_close(got[1][1], got[3][1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("missing", ["numba", "diffct"])
def test_missing_extra(monkeypatch, missing):
    A = ConeBeam(BOX, [0.0], 90.0, 150.0, (3, 3))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf'needs {missing}; install it with pip install "invdiff\[ct\]"'):
        A._diffct(torch.device("cpu")) if missing == "diffct" else ConeBeam(BOX, [0.0], 90.0, 150.0, (3, 3))


BAD = {
    "inside a slice": (
        lambda: FanBeam(SLICE, [0.0], 60.0, 100.0),
        "the source is 60 from the axis, inside the image.*68",
    ),
    "detector in front": (lambda: FanBeam(SLICE, [0.0], 90.0, 80.0), "the detector is 80 from the source, nearer than"),
    "fan in degrees": (lambda: FanBeam(SLICE, [90.0], 90.0, 100.0), "radians, the largest is 90; convert degrees by"),
    "fan without angles": (lambda: FanBeam(SLICE, [], 90.0, 100.0), "no angles given: fan-beam CT needs at least one"),
    "no pitch": (lambda: ParallelRadon(SLICE, [0.0], pitch=0.0), "pitch of the detector.* finite number > 0, got 0"),
    "no offset": (
        lambda: FanBeam(SLICE, [0.0], 90.0, 99.0, offset=math.nan),
        "offset .* finite number of cells, got n",
    ),
    "no window": (lambda: ParallelRadon(SLICE, [0.0], window="hamming"), "no filter 'hamming'; there are: ramp, shepp"),
    "complex fan": (
        lambda: FanBeam(Space((1, 4, 4), torch.complex64), [0.0], 9.0, 9.0),
        "fan-beam CT needs real images",
    ),
    "complex cone": (
        lambda: ConeBeam(Space((1, 4, 4, 4), torch.complex64), [0.0], 9.0, 9.0, (3, 3)),
        "cone-beam CT needs real images",
    ),
    "inside a volume": (
        lambda: ConeBeam(BOX, [0.0], 20.0, 100.0, (3, 3)),
        "the source is 20 from the axis, inside the",
    ),
    "cone in degrees": (lambda: ConeBeam(BOX, [90.0], 90.0, 150.0, (3, 3)), "in radians, the largest is 90"),
    "detector in a volume": (
        lambda: ConeBeam(BOX, [0.0], 90.0, 100.0, (3, 3)),
        "the detector is 10 mm behind the axis, inside the volume, which reaches to 21.9659 mm; give",
    ),
    "no cells": (lambda: ConeBeam(BOX, [0.0], 90.0, 150.0, (0, 3)), "at least one detector cell is needed, got 0"),
    "no voxels": (lambda: ConeBeam(BOX, [0.0], 90.0, 150.0, (3, 3), voxel=(1, 1)), "voxels need three sizes in mm"),
    "no helix": (lambda: Helical(BOX, 0, 1.0, 90.0, 99.0, (3, 3), feed=1.0), "a helix needs views, turns and a finite"),
    "no water": (
        lambda: attenuation.attenuation(0.0, 0.0),
        "attenuation of water is a finite number > 0 in 1/mm, got 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    make, message = BAD[name]
    with pytest.raises(ConfigError, match=message):
        make()


def test_refusals_of_shapes():
    with pytest.raises(ShapeError, match=r"fan-beam CT needs images of shape \(C, H, W\), found 1x32x28x24"):
        FanBeam(BOX, [0.0], 90.0, 100.0)
    with pytest.raises(ShapeError, match=r"cone-beam CT needs volumes of shape \(C, X, Y, Z\), found 1x96x96"):
        ConeBeam(SLICE, [0.0], 90.0, 100.0, (3, 3))


def test_hounsfield_units():
    hu = torch.tensor([-1000.0, 0.0, 1000.0])
    torch.testing.assert_close(attenuation.attenuation(hu), torch.tensor([0.0, 0.0192, 0.0384]))
    torch.testing.assert_close(attenuation.hounsfield(attenuation.attenuation(hu, 0.02), 0.02), hu, atol=1e-3, rtol=0)
    # NIST: 0.2059 cm^2/g at 60 keV, 0.1837 at 80 keV.
    assert 0.01837 < attenuation.MU_WATER < 0.02059
