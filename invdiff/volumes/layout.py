"""The two orders of a series: ours, volume by volume, and that of packages that look at voxels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def voxelwise(data: Tensor) -> NDArray[np.float32]:
    """(V, X, Y, Z) -> (X, Y, Z, V), a copy where the order of the bytes asks for one."""
    return np.ascontiguousarray(data.numpy().transpose(1, 2, 3, 0))


def volumewise(x: NDArray[np.float32]) -> Tensor:
    """(X, Y, Z, V) -> (V, X, Y, Z), the inverse."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(3, 0, 1, 2)))
