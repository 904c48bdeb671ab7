"""Slices come back exactly, along each axis."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.errors import ConfigError, ShapeError
from invdiff.testing.volumes import check_slices
from invdiff.volumes import from_slices, to_slices


@given(st.tuples(*[st.integers(1, 5)] * 4), st.sampled_from([torch.float32, torch.complex64, torch.int16]))
def test_slices_come_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check_slices(torch.arange(shape[0] * shape[1] * shape[2] * shape[3]).reshape(shape).to(dtype))


def test_slices_are_cut_along_the_third_stored_axis() -> None:
    assert to_slices(torch.zeros(2, 3, 4, 5)).shape == (10, 1, 3, 4)


def test_a_shuffled_stack_gives_another_volume() -> None:
    data = torch.arange(120.0).reshape(2, 3, 4, 5)
    assert not torch.equal(from_slices(to_slices(data).flip(0), data.shape), data)


@pytest.mark.parametrize("axis", [-1, 3])
def test_no_such_axis(axis: int) -> None:
    with pytest.raises(ConfigError, match=f"slice axis {axis} does not exist; give 0, 1 or 2"):
        to_slices(torch.zeros(1, 3, 4, 5), axis)
    with pytest.raises(ConfigError, match=f"slice axis {axis} does not exist; give 0, 1 or 2"):
        from_slices(torch.zeros(5, 1, 3, 4), (1, 3, 4, 5), axis)


def test_wrong_sizes() -> None:
    with pytest.raises(ShapeError, match=r"slices are cut from \(C, X, Y, Z\), not from \(3, 4, 5\)"):
        to_slices(torch.zeros(3, 4, 5))
    for shape in [(1, 3, 4, 6), (2, 3, 4, 5), (1, 4, 3, 5), (3, 4, 5)]:
        with pytest.raises(ShapeError, match=r"slices \(5, 1, 3, 4\) do not make up \(.*\) along axis 2"):
            from_slices(torch.zeros(5, 1, 3, 4), shape)
