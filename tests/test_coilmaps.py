"""Coil maps: simulated ones are found again from the middle of k-space, up to a phase that the image takes over."""

import math

import nibabel
import numpy as np
import pytest
import torch

from invdiff import coilmaps
from invdiff.acquisitions.sampling import random_lines
from invdiff.errors import ConfigError, ShapeError
from invdiff.operators import Coils, Mask
from invdiff.rng import generator
from invdiff.space import Space


@pytest.fixture(scope="module")
def head(epi_path):
    """A real slice as a complex image with a smooth phase, (1, 1, 128, 96), and 8 simulated maps."""
    x = torch.from_numpy(np.asarray(nibabel.load(epi_path).dataobj[:, :, 12, 0]).astype(np.float64))
    x = x / x.max()
    h, w = (torch.linspace(-1, 1, n).double() for n in x.shape)
    phase = 1.5 * torch.sin(2 * h[:, None] + w) + 0.5 * w**2
    return torch.polar(x, phase)[None, None], coilmaps.simulate(8, x.shape, (2.0, 2.2), 3).to(torch.complex128)


def kspace(head, sigma=0.0):
    image, maps = head
    k = torch.fft.fft2(Coils(Space((1, *image.shape[2:]), image.dtype), maps)(image), norm="ortho")
    return k + sigma * torch.randn(k.shape, dtype=k.dtype, generator=generator("coil noise"))


def lines(n):
    return random_lines(n, 3.0, 24 / 128, 0)[:, None].expand(n, 96)


def unexplained(maps, head, inside=0.05):
    """Energy of the coil images that the estimated maps cannot hold, relative to theirs, where there is signal."""
    image, true = head
    coils = true[None] * image
    s = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True).clamp_min(1e-12)
    left = coils - s * (s.conj() * coils).sum(1, keepdim=True)
    signal = (image.abs() > inside).expand_as(left)
    return float((left[signal].abs() ** 2).sum() / (coils[signal].abs() ** 2).sum()) ** 0.5


@pytest.mark.parametrize(
    ("method", "sigma", "allowed"),
    [("espirit", 0.0, 0.01), ("adaptive", 0.0, 0.05), ("espirit", 0.01, 0.03), ("adaptive", 0.01, 0.06)],
)
def test_maps_are_found_again(method, sigma, allowed, head):
    mask = lines(128)
    maps = coilmaps.estimate(torch.where(mask, kspace(head, sigma), 0), mask, method)
    assert unexplained(maps, head) < allowed
    norm = torch.linalg.vector_norm(maps, dim=1)
    assert float(torch.minimum(norm, (norm - 1).abs()).max()) < 1e-6, "unit norm, or 0"


def test_packed_and_full_kspace_give_the_same(head):
    mask = lines(128)
    k = kspace(head)
    packed = Mask(Space((8, 128, 96), k.dtype), mask)(k)
    for method in ("espirit", "adaptive"):
        assert torch.equal(coilmaps.estimate(packed, mask, method), coilmaps.estimate(k * mask, mask, method))


def test_each_problem_has_its_own_and_memory_does_not_matter(head, monkeypatch):
    mask, k = lines(128), kspace(head)
    both = torch.cat([k, k.flip(1)])
    for method in ("espirit", "adaptive"):
        maps = coilmaps.estimate(both, mask, method)
        monkeypatch.setattr(coilmaps, "BLOCK", 2**16)
        torch.testing.assert_close(coilmaps.estimate(both, mask, method), maps)
        monkeypatch.undo()
        magnitude = coilmaps.estimate(k, mask, method).abs()
        torch.testing.assert_close(maps[:1].abs(), magnitude, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(maps[1:].abs(), magnitude.flip(1), rtol=1e-6, atol=1e-6)


def test_the_phase_of_the_combined_image_is_smooth(head):
    image, _ = head
    mask = torch.ones(128, 96, dtype=torch.bool)
    maps = coilmaps.estimate(kspace(head), mask, "espirit")
    coils = torch.fft.ifft2(kspace(head), norm="ortho")
    combined = (maps.conj() * coils).sum(1)[0]
    pairs = combined[1:] * combined[:-1].conj()
    strong = image[0, 0].abs() > 0.1
    both = strong[1:] & strong[:-1]
    assert float(torch.angle(pairs)[both].abs().max()) < 0.5
    assert float((combined.abs() - image[0, 0].abs())[strong].abs().max()) < 0.02


def test_simulated_maps():
    for shape, spacing in (((64, 48), (2.0, 3.0)), ((64, 48, 24), (2.0, 2.0, 4.0))):
        maps = coilmaps.simulate(6, shape, spacing, 1)
        assert maps.shape == (6, *shape)
        torch.testing.assert_close(torch.linalg.vector_norm(maps, dim=0), torch.ones(shape))
        assert torch.equal(maps, coilmaps.simulate(6, shape, spacing, 1))
        assert not torch.equal(maps, coilmaps.simulate(6, shape, spacing, 2))
        steps = (maps[:, 1:] - maps[:, :-1]).abs()
        assert float(steps.max()) < 0.25, "smooth, even in the corner next to a loop"
        assert float(steps.mean()) < 0.02
        brightest = {tuple(m.abs().flatten().argmax()[None].tolist()) for m in maps}
        assert len(brightest) == 6, "each coil sees another part best"


def test_calibration_finds_the_box():
    mask = torch.zeros(32, 24, dtype=torch.bool)
    centred = torch.fft.fftshift(mask)
    centred[10:23, 8:16] = True  # 6 lines below DC at 16, 6 above it; 4 and 4 columns
    centred[2, :] = True
    mask = torch.fft.ifftshift(centred)
    k = torch.arange(32.0)[:, None] + 100 * torch.arange(24.0) + 0j
    region = coilmaps.calibration(torch.fft.ifftshift(k)[None, None], mask)
    torch.testing.assert_close(region[0, 0], k[10:23, 8:16])
    smaller = coilmaps.calibration(torch.fft.ifftshift(k)[None, None], mask, most=7)
    assert smaller.shape == (1, 1, 7, 7)
    assert smaller[0, 0, 3, 3] == k[16, 12], "DC in the middle"


def test_leading_is_the_largest_eigenpair():
    A = torch.randn(50, 5, 5, dtype=torch.complex128, generator=generator("hermitian"))
    G = A @ A.mH
    value, vector = coilmaps.leading(G)
    want, vectors = torch.linalg.eigh(G)
    torch.testing.assert_close(value, want[:, -1], rtol=1e-6, atol=0)
    apart = want[:, -2] < 0.9 * want[:, -1]
    overlap = (vectors[..., -1].conj() * vector).sum(-1).abs()
    torch.testing.assert_close(overlap[apart], torch.ones(int(apart.sum())).double())


def test_messages(head):
    mask = torch.zeros(128, 96, dtype=torch.bool)
    mask[:3] = mask[-2:] = True
    with pytest.raises(ConfigError, match="at least 6 lines along each axis; this one has 5 x 24; raise center_"):
        coilmaps.estimate(kspace(head) * mask, mask, "espirit")
    with pytest.raises(ShapeError, match="does not fit a mask of"):
        coilmaps.calibration(kspace(head)[..., :-1], mask)
    with pytest.raises(ConfigError, match="a calibration region of 4 x 9 is smaller than the kernel, 6"):
        coilmaps.espirit(torch.ones(1, 2, 4, 9, dtype=torch.complex64), (16, 16))
    with pytest.raises(ConfigError, match="the calibration region is 0: no coil maps can be found"):
        coilmaps.espirit(torch.zeros(1, 2, 8, 8, dtype=torch.complex64), (16, 16))
    with pytest.raises(ShapeError, match="does not fit maps of"):
        coilmaps.espirit(torch.ones(1, 2, 8, 8, dtype=torch.complex64), (16, 16, 16))
    assert math.isfinite(unexplained(torch.ones(1, 8, 128, 96).to(torch.complex128), head))


def test_maps_of_noise_are_refused():
    """Six lines of nothing but noise: no direction of the coils stands out."""
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:3] = mask[-3:] = True
    noise = torch.randn((2, 8, int(mask.sum())), dtype=torch.complex64, generator=generator(0))
    with pytest.raises(
        ConfigError, match="no coil maps in a centre of k-space of 6 x 24: raise center_fraction, or give coil_m"
    ):
        coilmaps.estimate(noise, mask, "espirit")
