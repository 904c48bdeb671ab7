"""Volumes as stacks of slices and back: the batch that a two-dimensional operator or prior works on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from invdiff.errors import ConfigError, ShapeError


def to_slices(data: Tensor, axis: int = 2) -> Tensor:
    """Cut data (C, X, Y, Z) across a stored axis into (P, 1, H, W), contiguous; P = C x slices, frame by frame.

    Args:
        data: (C, X, Y, Z), any dtype; frames are independent of each other.
        axis: 0, 1 or 2: the stored axis that counts the slices; H and W are the other two in stored order.

    Raises:
        ConfigError: no such axis.
        ShapeError: data without four axes.
    """
    _check_axis(axis)
    if data.ndim != 4:
        raise ShapeError(f"slices are cut from (C, X, Y, Z), not from {tuple(data.shape)}")
    stack = data.movedim(axis + 1, 1)
    return stack.reshape(-1, 1, *stack.shape[2:]).contiguous()


def from_slices(slices: Tensor, shape: Sequence[int], axis: int = 2) -> Tensor:
    """The exact inverse of `to_slices`: (P, 1, H, W) back to `shape` (C, X, Y, Z), contiguous.

    Raises:
        ConfigError: no such axis.
        ShapeError: these slices do not make up a volume of that shape.
    """
    _check_axis(axis)
    frames, *grid = shape
    count = grid.pop(axis) if len(grid) == 3 else 0
    if tuple(slices.shape) != (frames * count, 1, *grid):
        raise ShapeError(f"slices {tuple(slices.shape)} do not make up {tuple(shape)} along axis {axis}")
    return slices.reshape(frames, count, *grid).movedim(1, axis + 1).contiguous()


def _check_axis(axis: int) -> None:
    if axis not in (0, 1, 2):
        raise ConfigError(f"slice axis {axis} does not exist; give 0, 1 or 2")
