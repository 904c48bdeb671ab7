"""What a volume accepts, and what it says of itself."""

import json

import numpy as np
import pytest
import torch

from invdiff.errors import GeometryError, ShapeError
from invdiff.volumes import Volume, describe

AFFINE = np.array([[0, -2.0, 0, 9], [1.0, 0, 0, 8], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def test_like_keeps_the_place_and_takes_the_numbers() -> None:
    source = Volume(torch.zeros(2, 3, 4, 5), AFFINE, b"opaque", series=True)
    other = source.like(torch.ones(7, 3, 4, 5))
    np.testing.assert_array_equal(other.affine, source.affine)
    assert (other.header, other.series, len(other.data)) == (b"opaque", True, 7)
    assert not source.like(torch.ones(1, 3, 4, 5), series=False).series


def test_like_refuses_another_grid() -> None:
    with pytest.raises(ShapeError, match=r"grid \(3, 4, 5\), the new data \(4, 3, 5\); use crop\(\) or canonical\(\)"):
        Volume(torch.zeros(1, 3, 4, 5), AFFINE).like(torch.zeros(1, 4, 3, 5))


@pytest.mark.parametrize("data", [torch.zeros(3, 4, 5), torch.zeros(1, 3, 4, 5).double(), torch.zeros(1, 1, 3, 4, 5)])
def test_refuses_other_axes_and_types(data: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"a volume holds \(C, X, Y, Z\) float32, not \(.*\) float.*; reshape, then"):
        Volume(data, AFFINE)


def test_refuses_emptiness() -> None:
    with pytest.raises(GeometryError, match=r"the volume is empty: \(C, X, Y, Z\) = \(1, 0, 4, 5\)"):
        Volume(torch.zeros(1, 0, 4, 5), AFFINE)


def test_affine_is_a_copy() -> None:
    mine = AFFINE.copy()
    volume = Volume(torch.zeros(1, 3, 4, 5), mine)
    mine[:] = 0
    np.testing.assert_array_equal(volume.affine, AFFINE)


def test_describe_is_json() -> None:
    expected = {"shape": [3, 4, 5], "frames": 2, "spacing": [1, 2, 3], "orientation": "ALS", "affine": AFFINE.tolist()}
    assert json.loads(json.dumps(describe(Volume(torch.zeros(2, 3, 4, 5), AFFINE)))) == expected
