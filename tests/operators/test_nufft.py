"""Fourier samples anywhere: against the direct sum, the FFT, one backend against the other; density weights."""

import copy
import math
import sys

import numpy as np
import pytest
import torch

from invdiff import trajectories
from invdiff.errors import ConfigError, ShapeError
from invdiff.linalg import dot
from invdiff.operators import FFT, NUFFT, Coils, ComplexFromChannels
from invdiff.operators import gridding as module
from invdiff.operators.gridding import density
from invdiff.space import Space
from invdiff.testing.operators import draw

BACKENDS = ["finufft", "gridding"]
PLANE, CUBE = Space((1, 21, 16), torch.complex64), Space((2, 9, 12, 7), torch.complex64)
K = torch.tensor([[0.3, -7.2], [4.0, 8.0]])


def anywhere(shape, samples=200):
    generator = torch.Generator().manual_seed(7)
    return (torch.rand((samples, len(shape)), generator=generator, dtype=torch.float64) - 0.5) * torch.tensor(shape)


def direct_sum(x, k):
    """y(k) = sum_j x_j exp(-2 pi i k j / n) / sqrt(n1 n2 ...), term by term."""
    sizes = x.shape[2:]
    j = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in sizes), indexing="ij"), -1)
    angle = -2 * math.pi * k @ j.flatten(0, -2).T
    return x.flatten(2).to(torch.complex128) @ torch.polar(torch.ones_like(angle), angle).T / math.prod(sizes) ** 0.5


def relative(got, want):
    return float((got - want).abs().square().sum().sqrt() / want.abs().square().sum().sqrt())


def phantom(n, dtype=torch.complex64):
    """Two smooth blobs, one of them complex, well inside the circle."""
    y, x = torch.meshgrid(torch.arange(n) - n // 2, torch.arange(n) - n // 2, indexing="ij")
    big = torch.exp(-(x**2 + y**2) / (0.18 * n) ** 2)
    small = torch.exp(-((x - 0.12 * n) ** 2 + (y + 0.1 * n) ** 2) / (0.06 * n) ** 2)
    return torch.complex(big, 0.5 * small).to(dtype)[None, None]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("space", [PLANE, CUBE])
def test_it_is_the_direct_sum(space, backend):
    k, x = anywhere(space.shape[1:]), draw(space, 2, "x")
    assert relative(NUFFT(space, k, backend=backend)(x), direct_sum(x, k)) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_direct_sum_at_the_size_of_a_scan(backend):
    """finufft in float32 would round the trajectory and be off by 2e-5."""
    space = Space((1, 256, 256), torch.complex64)
    k, x = anywhere((256, 256), 300), draw(space, 1, "x")
    along = [torch.exp(-2j * math.pi * k[:, a, None] * torch.arange(256) / 256) for a in (0, 1)]
    want = torch.einsum("ka,kb,ab->k", *along, x[0, 0].to(torch.complex128)) / 256
    assert relative(NUFFT(space, k, backend=backend)(x)[0, 0], want) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_the_error_is_what_was_asked_for(tolerance, backend):
    space = Space((1, 48, 41), torch.complex128)
    k, x = anywhere(space.shape[1:]), draw(space, 1, "x")
    error = relative(NUFFT(space, k, backend=backend, tolerance=tolerance)(x), direct_sum(x, k))
    assert error < 2.5 * tolerance
    assert error > 1e-4 * tolerance  # else time was wasted


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 20, 16), (1, 21, 15), (1, 6, 5, 4)])
def test_on_whole_numbers_it_is_the_fft(shape, backend):
    space = Space(shape, torch.complex128)
    k = torch.cartesian_prod(*(torch.arange(n) - n // 2 for n in shape[1:]))
    x = draw(space, 2, "x")
    F = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")
    if len(shape) == 3:
        torch.testing.assert_close(F, FFT(space)(x))
    want = F[(..., *k.T)]  # negative indices count from the end, as frequencies do
    A = NUFFT(space, k, backend=backend, tolerance=1e-12)
    torch.testing.assert_close(A(x), want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(A.normal(x), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(A.direct(want), x, rtol=1e-9, atol=1e-9)


def test_data_measured_about_the_middle_of_the_image():
    """What the docstring says to do with them."""
    n, k = torch.tensor(PLANE.shape[1:]).double(), anywhere(PLANE.shape[1:])
    x = draw(PLANE, 1, "x")
    middle = torch.polar(torch.ones(len(k)).double(), 2 * math.pi * (k * (n // 2) / n).sum(1))
    centred = direct_sum(x, k) * middle
    j = torch.cartesian_prod(*(torch.arange(int(m)) - int(m) // 2 for m in n)) / n
    want = x.flatten(2).to(torch.complex128) @ torch.exp(-2j * math.pi * (k @ j.T)).T / math.sqrt(n.prod())
    torch.testing.assert_close(centred, want)
    assert relative(NUFFT(PLANE, k)(x), centred * middle.conj()) < 1e-5


@pytest.mark.parametrize("space", [PLANE, CUBE])
def test_backends_agree(space):
    k = anywhere(space.shape[1:])
    A, B = (NUFFT(space, k, backend=b) for b in BACKENDS)
    x, y = draw(space, 3, "x"), draw(A.range, 3, "y")
    assert relative(A(x), B(x)) < 5e-6
    assert relative(A.adjoint(y), B.adjoint(y)) < 5e-6
    assert relative(A.direct(y), B.direct(y)) < 5e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_gradients(backend):
    """The normal equations' residual, differentiated twice."""
    space = Space((1, 5, 4), torch.complex128)
    A = NUFFT(space, anywhere((5, 4), 12), backend=backend)
    x, y, v = draw(space, 2, "x").requires_grad_(), draw(A.range, 2, "y"), draw(space, 2, "v")
    (g,) = torch.autograd.grad(dot(A(x) - y, A(x) - y).sum() / 2, x, create_graph=True)
    torch.testing.assert_close(g, A.adjoint(A(x) - y))
    (h,) = torch.autograd.grad(dot(g, v).sum(), x)
    torch.testing.assert_close(h, A.normal(v))


@pytest.mark.parametrize("backend", BACKENDS)
def test_toeplitz_is_the_normal_map(backend):
    k = anywhere(CUBE.shape[1:], 700)
    x = draw(CUBE, 2, "x")
    A, T = (NUFFT(CUBE, k, backend=backend, toeplitz=t) for t in (False, True))
    assert relative(T.normal(x), A.normal(x)) < 1e-5
    half = NUFFT(CUBE, k / 2, backend=backend, toeplitz=True)
    assert relative(half.normal(x), A.normal(x)) > 0.1


def test_many_images_go_block_by_block(monkeypatch):
    k, x = anywhere(PLANE.shape[1:]), draw(Space((5, *PLANE.shape[1:]), PLANE.dtype), 3, "x")
    A = NUFFT(Space((5, *PLANE.shape[1:]), PLANE.dtype), k, backend="gridding")
    y = A(x)
    z = A.adjoint(y)
    monkeypatch.setattr(module, "BLOCK", 4 * 4 * 21 * 16)  # four images at once, 15 in all
    torch.testing.assert_close(A(x), y)
    torch.testing.assert_close(A.adjoint(y), z)
    assert torch.equal(A(x.roll(1, 0)).roll(-1, 0), A(x))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(threads):
    """finufft adds in any order where threads share an image: here none do, whatever the number of images."""
    before = torch.get_num_threads()
    space = Space((1, 64, 60), torch.complex64)
    A = NUFFT(space, anywhere((64, 60), 9000), backend="finufft")
    y = draw(A.range, 4, "y")
    try:
        torch.set_num_threads(threads)
        x = A.adjoint(y)
        assert all(torch.equal(A.adjoint(y), x) for _ in range(5))
        assert torch.equal(A.adjoint(y.roll(1, 0)).roll(-1, 0), x)
        assert all(torch.equal(A.adjoint(y[:1]), A.adjoint(y[:1])) for _ in range(5))
    finally:
        torch.set_num_threads(before)


def test_copies_work_and_few_plans_are_kept():
    A = NUFFT(PLANE, anywhere(PLANE.shape[1:]), backend="finufft")
    x = draw(PLANE, 1, "x")
    y = A(x)
    assert torch.equal(copy.deepcopy(A)(x), y)
    for rows in range(1, 9):
        A(x.expand(rows, -1, -1, -1))
    assert len(A._plans.plans) == A._plans.KEPT


def test_density_of_spokes_is_the_ramp():
    """Spokes at Nyquist's rate: |k|, from the second ring to one kernel before the edge."""
    n, spokes = 48, 76
    k = trajectories.radial((n, n), spokes)
    radius = k.norm(dim=1).numpy()
    w = density(k.numpy(), (n, n))
    ring = (radius > 1.5) & (radius < n / 2 - 4)
    assert (w[ring] / radius[ring]).std() < 0.03 * (w[ring] / radius[ring]).mean()
    inside, outside = w[radius < 4.1].sum(), w[(radius > 8.1) & (radius < 16.1)].sum()
    assert inside / outside == pytest.approx(4.25**2 / (16.25**2 - 8.25**2), rel=0.02)  # areas, half a sample further


def test_density_of_the_grid_is_flat():
    k = np.stack(np.meshgrid(np.arange(-12, 12), np.arange(-10, 10), indexing="ij"), -1).reshape(-1, 2)
    w = density(k.astype(float), (24, 20))
    assert w.std() < 1e-6 * w.mean()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "k", "most"),
    [
        ("radial", trajectories.radial((64, 64), 101), 0.03),
        ("golden", trajectories.radial((64, 64), 101, golden=True), 0.03),
        ("spiral", trajectories.spiral((64, 64), 16, 2.0), 0.03),
        ("dense spiral", trajectories.spiral((64, 64), 16, 4.0, density=2.0), 0.03),
    ],
)
def test_gridding_gives_the_image_back(name, k, most, backend):
    del name
    x = phantom(64)
    A = NUFFT(Space((1, 64, 64), torch.complex64), k, backend=backend)
    assert relative(A.direct(A(x)), x) < most
    ones = torch.ones_like(x)
    assert complex(A.direct(A(ones)).mean()) == pytest.approx(1, rel=1e-4)


def test_weights_of_ones_own_are_used_and_scaled():
    k, x = trajectories.radial((64, 64), 101), phantom(64)
    space = Space((1, 64, 64), torch.complex64)
    ramp = k.norm(dim=1).clamp_min(1 / 8)
    A, B = (NUFFT(space, k, c * ramp) for c in (1.0, 1000.0))
    assert relative(A.direct(A(x)), x) < 0.05
    assert relative(A.direct(A(x)), B.direct(B(x))) < 1e-6
    assert relative(A.direct(A(x)), NUFFT(space, k).direct(A(x))) > 1e-3


def test_coils_are_undone_after_gridding():
    n = 64
    x = torch.view_as_real(phantom(n)[0, 0]).movedim(-1, 0)[None].contiguous()
    ramps = torch.linspace(0.3, 1, n)
    maps = torch.stack([ramps[:, None] * torch.ones(n), 1j * ramps.flip(0) * torch.ones(n, n)])
    right = Coils(Space((1, n, n), torch.complex64), maps) @ ComplexFromChannels(Space((2, n, n)))
    A = NUFFT(right.range, trajectories.radial((n, n), 101)) @ right
    assert relative(A.direct(A(x)), x) < 0.04


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_a_scan_of_eight_coils(backend):
    """256 x 256, 64 spokes, 8 coils: the sizes, and one adjoint that is one."""
    space = Space((8, 256, 256), torch.complex64)
    A = NUFFT(space, trajectories.radial((256, 256), 64, golden=True), backend=backend)
    assert A.range.shape == (8, 64 * 512)
    x, y = draw(space, 1, "x"), draw(A.range, 1, "y")
    gap = (dot(A(x), y) - dot(x, A.adjoint(y))).abs() / (dot(A(x), A(x)) * dot(y, y)).sqrt()
    assert float(gap) < 1e-6


BAD = {
    "real images": (
        lambda: NUFFT(Space((1, 21, 16)), K),
        ConfigError,
        "complex images, found 1x21x16 float32; put Real",
    ),
    "radians": (
        lambda: NUFFT(PLANE, K * 4),
        ConfigError,
        r"reaches 32 along axis 1, beyond the unit cell: 8 for 16 pixels; give cycles per field of view "
        r"\(radians per pixel times 16 / 2 pi\), or divide by 4",
    ),
    "not a number": (
        lambda: NUFFT(PLANE, K * math.nan),
        ConfigError,
        "not finite and real; give cycles per field of vi",
    ),
    "complex": (lambda: NUFFT(PLANE, torch.complex(K, K)), ConfigError, "not finite and real"),
    "another number of axes": (
        lambda: NUFFT(CUBE, K),
        ShapeError,
        r"a trajectory of 2x2 does not fit images of 2x9x12x7 complex64: it must be \(samples, 2\)",
    ),
    "one axis": (lambda: NUFFT(Space((1, 8), torch.complex64), K[:, :1]), ShapeError, "it must be"),
    "no samples": (lambda: NUFFT(PLANE, K[:0]), ShapeError, "a trajectory of 0x2 does not fit"),
    "too exact": (lambda: NUFFT(PLANE, K, tolerance=1e-20), ConfigError, "between 1e-14 and 0.1, got 1e-20"),
    "a weight too few": (lambda: NUFFT(PLANE, K, torch.ones(1)), ShapeError, r"shape \(1,\) do not fit 2 samples"),
    "negative weights": (lambda: NUFFT(PLANE, K, -torch.ones(2)), ConfigError, "finite, not negative and not all zero"),
}


@pytest.mark.parametrize("name", BAD)
def test_message(name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()


def test_the_edge_of_the_unit_cell_is_inside():
    k = torch.tensor([[-10.5, 8.0], [10.5, -8.0]]).float()
    x = draw(PLANE, 1, "x")
    for backend in BACKENDS:
        assert relative(NUFFT(PLANE, k, backend=backend)(x), direct_sum(x, k.double())) < 1e-5


def test_without_finufft(monkeypatch):
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(ConfigError, match=r'finufft is not installed; pip install "invdiff\[mri\]", or choose "auto"'):
        NUFFT(PLANE, K, backend="finufft")
    A = NUFFT(PLANE, K)
    assert A.backend == "gridding"
    x = draw(PLANE, 1, "x")
    assert relative(A(x), direct_sum(x, K.double())) < 1e-5


def test_finufft_is_for_cpus():
    images = torch.empty(1, *PLANE.shape, dtype=PLANE.dtype, device="meta")
    with pytest.raises(ConfigError, match='finufft works on the CPU, the images are on meta; choose backend "auto"'):
        NUFFT(PLANE, K, backend="finufft")(images)


def test_gridding_that_does_not_fit_in_memory():
    k = torch.zeros(600_000, 3)
    A = NUFFT(Space((1, 64, 64, 64), torch.complex64), k, backend="gridding")
    with pytest.raises(
        ConfigError, match=r"gridding 600000 samples in 3-D to 1e-06 needs matrices of 3.1 GiB; pip inst"
    ):
        A(torch.zeros(1, *A.domain.shape, dtype=torch.complex64))
