"""What happens to k-space between the file and the measurement: shifts, oversampling, whitening, slices, places."""

import numpy as np
import pytest
import torch

from invdiff.errors import ConfigError, FileError, GeometryError, ShapeError
from invdiff.importers.kspace import KSpace, as_slices, to_corner, to_image, to_kspace, whitened, without_oversampling
from invdiff.importers.level import Level
from invdiff.importers.place import Place, step


def raw(samples, *, fov=(200.0, 100.0, 5.0), **fields):
    """Of samples (frames, slices, coils, readout, phase, partition)."""
    measured = samples.abs().amax((2, 3)) > 0
    return KSpace(samples, measured, fov, **fields)


def random(*shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.complex64)


def centred_fft(x, axes):
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(x, dim=axes), dim=axes, norm="ortho"), dim=axes)


@pytest.mark.parametrize("sizes", [(8, 6), (7, 6), (8, 5), (9, 7), (1, 4)])
def test_to_the_corner_is_the_transform_of_the_stored_image(sizes, generator):
    x = torch.randn(2, 3, *sizes, generator=generator, dtype=torch.complex128)
    torch.testing.assert_close(to_corner(centred_fft(x, (-2, -1))), torch.fft.fft2(x, norm="ortho"))


@pytest.mark.parametrize("n", [8, 9])
def test_image_and_kspace_along_an_axis_are_inverse_and_orthonormal(n, generator):
    x = torch.randn(2, n, 3, generator=generator, dtype=torch.complex128)
    torch.testing.assert_close(to_image(to_kspace(x, 1), 1), x)
    torch.testing.assert_close(to_kspace(x, 1), centred_fft(x, (1,)))


@pytest.mark.parametrize(("n", "kept"), [(16, 8), (12, 6), (14, 7), (15, 10)])
def test_oversampling_is_removed_exactly(n, kept, generator):
    small = random(1, 1, 2, kept, 5, 1, generator=generator)
    wide = torch.zeros(1, 1, 2, n, 5, 1, dtype=torch.complex64)
    first = n // 2 - kept // 2
    wide[:, :, :, first : first + kept] = small
    k = without_oversampling(raw(to_kspace(wide, 3), oversampling=n / kept))
    torch.testing.assert_close(to_image(k.samples, 3), small, rtol=1e-4, atol=1e-5)
    assert k.fov == (pytest.approx(200 * kept / n), 100, 5)
    assert k.oversampling == 1


def test_oversampling_keeps_white_noise_white(generator):
    noise = random(1, 1, 1, 128, 200, 1, generator=generator)
    k = without_oversampling(raw(noise, oversampling=2)).samples[0, 0, 0, :, :, 0]
    assert float(k.real.std()) == pytest.approx(float(noise.real.std()), rel=0.03)
    correlation = (k[1:] * k[:-1].conj()).mean().abs() / (k.abs() ** 2).mean()
    assert float(correlation) < 0.03


def test_an_asymmetric_echo_keeps_its_field_of_view_and_gets_a_mask(generator):
    samples = random(1, 2, 1, 16, 6, 1, generator=generator)
    samples[:, :, :, :5] = 0
    k = without_oversampling(raw(samples, oversampling=2))
    assert k.samples.shape[3] == 16
    slices, measured, axis = as_slices(k)
    assert (tuple(slices.shape), axis) == ((2, 1, 6, 16), 2)
    assert measured.sum() == 6 * 11
    assert not measured[:, :5].any()


def test_a_volume_is_taken_apart_along_its_readout(generator):
    x = torch.randn(2, 1, 3, 8, 6, 5, generator=generator, dtype=torch.complex64)
    k = centred_fft(x, (3, 4, 5))
    k[..., 2, 3] = 0
    slices, measured, axis = as_slices(raw(k))
    assert (tuple(slices.shape), axis) == ((16, 3, 6, 5), 1)
    assert measured.sum() == 29
    want = centred_fft(x, (4, 5))[:, 0].movedim(2, 1).flatten(0, 1)
    torch.testing.assert_close(slices, want * measured, rtol=1e-4, atol=1e-5)


def test_an_asymmetric_echo_in_three_dimensions(generator):
    k = random(1, 1, 1, 8, 4, 4, generator=generator)
    k[:, :, :, 0] = 0
    with pytest.raises(ConfigError, match=r"7 of 8 readout samples of a 3-D scan were measured \(asymmetric echo\)"):
        as_slices(raw(k))


def test_whitening_mixes_coils_by_the_noise_scan(generator):
    mixing = torch.tensor([[1.0, 0], [0.8, 0.5]], dtype=torch.complex64)
    noise = random(20000, 2, generator=generator) @ mixing.T
    samples = torch.einsum("dc,fscrpq->fsdrpq", mixing, random(1, 1, 2, 64, 64, 1, generator=generator))
    k, sigma = whitened(raw(samples, noise=noise))
    flat = k.samples[0, 0].flatten(1)
    covariance = flat @ flat.mH / flat.shape[1]
    torch.testing.assert_close(covariance, 2 * sigma**2 * torch.eye(2) + 0j, rtol=0, atol=0.05)
    assert whitened(raw(samples))[1] is None


REFUSED = {
    "axes": (lambda k: k[0], ShapeError, r"6 and 4 axes are needed"),
    "slabs": (lambda k: torch.ones(1, 2, 1, 4, 4, 3) + 0j, ShapeError, "2 slabs of 3 partitions"),
    "nan": (lambda k: k * float("nan"), FileError, "a.h5: k-space holds NaN or infinite values"),
    "zero": (lambda k: 0 * k, FileError, "a.h5: k-space is zero everywhere"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, generator):
    change, error, message = REFUSED[case]
    k = change(random(1, 2, 1, 4, 4, 1, generator=generator))
    measured = torch.ones(*k.shape[:2], *k.shape[4:], dtype=torch.bool)
    with pytest.raises(error, match=message):
        KSpace(k, measured, (1, 1, 1), facts={"source": "a.h5"})


def test_refused_noise_and_field_of_view(generator):
    k = random(1, 2, 1, 4, 4, 1, generator=generator)
    with pytest.raises(FileError, match="the scan: the noise scan holds NaN or infinite"):
        raw(k, noise=torch.full((9, 1), float("inf"), dtype=torch.complex64))
    with pytest.raises(
        FileError, match=r"field of view \(0, 1, 1\) mm is not positive; correct the header or give --vox"
    ):
        raw(k, fov=(0, 1, 1))


def test_slices_that_were_sampled_differently(generator):
    k = random(2, 3, 1, 4, 8, 1, generator=generator)
    k[1, 2, :, :, 3] = 0
    with pytest.raises(
        ShapeError, match=r"slice 2 of frame 1 was sampled differently \(7 lines against 8 of the first"
    ):
        as_slices(raw(k))


def test_the_place_of_slices_measured_in_any_order():
    rows, columns = np.array([0.8, 0.6, 0]), np.array([0, 0, 1.0])
    normal = np.cross(rows, columns)
    place = Place(rows, columns, normal, np.array([n * 4 * normal + [5, 6, 7] for n in (1, 2, 0)]))
    assert place.order.tolist() == [2, 0, 1]
    affine = place.affine((10, 9, 3), (1.5, 2, 3))
    lps = 5 * np.array([1.0, 0, 0]) + [0, 6, 7] + 4 * normal + 1.5 * 2 * rows - 2 * 3 * columns
    np.testing.assert_allclose(affine @ [5 + 2, 4 - 3, 1, 1], [-lps[0], -lps[1], lps[2], 1])


def test_the_place_of_a_slab_is_its_middle():
    place = Place(*np.eye(3), np.array([[1.0, 2, 3]]))
    affine = place.affine((10, 9, 7), (1, 2, 3))
    np.testing.assert_allclose(affine @ [5, 4, 3, 1], [-1, -2, 3, 1])
    np.testing.assert_allclose(affine @ [5, 4, 4, 1], [-1, -2, 6, 1])


def test_slices_in_several_directions():
    with pytest.raises(GeometryError, match=r"3 slices are not equally spaced: .* \(another orientation\?\)"):
        step(np.array([[0, 0, 0], [0, 0, 5], [0, 4.9, 5.0]]))


def test_levels():
    with pytest.raises(ConfigError, match="both give the noise level; give one of them"):
        Level(sigma=1, fraction=0.1)
    for kind in ("sigma", "fraction"):
        for value in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match="must be a finite number >= 0"):
                Level(**{kind: value})
    assert not Level().given
