"""Affines move with the voxels, as nibabel moves them."""

from random import Random
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from invdiff.errors import GeometryError, ShapeError
from invdiff.testing.volumes import check_same_place
from invdiff.volumes import Volume

nib: Any = nibabel  # no annotations


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Any size, any oblique and sheared place, either handedness."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    data = torch.from_numpy(rng.normal(size=draw(st.tuples(*[st.integers(1, 7)] * 4))).astype(np.float32))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3))) * rng.uniform(0.1, 9, 3)
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return Volume(data, affine)


@settings(max_examples=100, deadline=None)
@given(volumes())
def test_canonical_is_nibabels(volume: Volume) -> None:
    turned = volume.canonical()
    check_same_place(turned, volume, atol=1e-9)
    image = nib.as_closest_canonical(nib.Nifti1Image(volume.data.movedim(0, -1).numpy(), volume.affine))
    np.testing.assert_array_equal(turned.data.movedim(0, -1).numpy(), np.asarray(image.dataobj))
    np.testing.assert_allclose(turned.affine, image.affine, atol=1e-9)
    assert turned.data.is_contiguous()
    assert turned.orientation == "RAS"
    assert sorted(turned.spacing) == pytest.approx(sorted(volume.spacing))


@settings(max_examples=100, deadline=None)
@given(volumes(), st.randoms(use_true_random=False))
def test_crop_is_nibabels(volume: Volume, random: Random) -> None:
    start = [random.randrange(n) for n in volume.data.shape[1:]]
    shape = [random.randint(1, n - a) for n, a in zip(volume.data.shape[1:], start, strict=True)]
    cropped = volume.crop(start, shape)
    check_same_place(cropped, volume, atol=1e-9)
    image = nib.Nifti1Image(volume.data.movedim(0, -1).numpy(), volume.affine)
    x, y, z = (slice(a, a + n) for a, n in zip(start, shape, strict=True))
    np.testing.assert_allclose(cropped.affine, image.slicer[x, y, z].affine, atol=1e-9)


@pytest.mark.parametrize(("start", "shape"), [((-1, 0, 0), (1, 1, 1)), ((0, 0, 0), (1, 0, 1)), ((2, 0, 0), (2, 1, 1))])
def test_crop_outside(start: tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"a crop of \(.*\) voxels from \(.*\) does not fit in \(3, 4, 5\)"):
        Volume(torch.zeros(1, 3, 4, 5), np.eye(4)).crop(start, shape)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1.0, 1, 0, 1]), "the affine is singular: .*; correct sform or qform"),
        (np.array([[1.0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "the affine is singular"),
        (np.diag([1.0, np.nan, 1, 1]), "no finite 4x4 matrix with last row 0 0 0 1: .*; correct the header"),
        (np.diag([1.0, 1, 1, 2]), "no finite 4x4 matrix"),
        (np.eye(3), "no finite 4x4 matrix"),
    ],
)
def test_affines_that_are_no_place(affine: NDArray[np.float64], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Volume(torch.zeros(1, 3, 4, 5), affine)


def test_tiny_and_huge_voxels_are_not_singular() -> None:
    for scale in (1e-6, 1e6):
        assert Volume(torch.zeros(1, 1, 1, 1), np.diag([scale, 2 * scale, 1.0, 1.0])).spacing == (scale, 2 * scale, 1)
