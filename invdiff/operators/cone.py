"""Cone-beam CT with a flat detector: own kernels on the CPU, those of diffct on the GPU (extra `ct`)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.fanbeam import check_distances, corner, shadow
from invdiff.operators.filtered import (
    Window,
    back_project_cone,
    check_window,
    fan_weights,
    missing_cells,
    one_side,
    ramp,
)
from invdiff.operators.sparse import linear
from invdiff.operators.tomography import cells, check_real, radians
from invdiff.space import Space


class ConeBeam(LinearOperator):
    """Line integrals of (C, X, Y, Z) volumes along rays from a point; the range is (C, views, rows, columns).

    The axis of rotation is parallel to Z through the centre of voxel (X // 2, Y // 2); heights count from the centre of
    voxel Z // 2. In the plane of the source all is as in `FanBeam`, with X for rows and Y for columns; rows of the
    detector go along Z. Rays are exact sums of voxels times lengths of intersection (Siddon, Med. Phys. 1985).

    On the CPU numba compiles the kernels, which takes seconds once; on a GPU those of diffct run.

    Args:
        space: real volumes, (C, X, Y, Z).
        angles: beta in radians, at least one.
        source_to_axis: R, in mm.
        source_to_detector: in mm, at least R.
        detector: rows and columns.
        voxel: size of a voxel in mm along X, Y and Z.
        cell: height and width of a detector cell in mm.
        offset: shift of the detector along its rows, in cells.
        window: of the filter of `direct`.

    Raises:
        ConfigError: complex volumes, a source inside the volume, an empty detector, sizes that are not positive,
            angles that look like degrees, no such window; numba that is not installed.
        ShapeError: volumes with another number of axes.
    """

    frames: Tensor

    def __init__(
        self,
        space: Space,
        angles: Tensor | Sequence[float] | NDArray[np.float64],
        source_to_axis: float,
        source_to_detector: float,
        detector: tuple[int, int],
        *,
        voxel: Sequence[float] = (1.0, 1.0, 1.0),
        cell: tuple[float, float] = (1.0, 1.0),
        offset: float = 0.0,
        window: Window = "ramp",
        heights: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.radius = _checked(space, voxel, source_to_axis, source_to_detector)
        check_window(window)
        self.angles = radians(angles, "cone-beam", math.inf if heights is not None else 2.0)
        scale = source_to_axis / source_to_detector
        self.v, self.u = cells(detector[0], cell[0] * scale, 0.0), cells(detector[1], cell[1] * scale, offset)
        self.heights = np.zeros(len(self.angles)) if heights is None else heights
        self.R, self.L, self.voxel, self.cell = source_to_axis, source_to_detector, tuple(voxel), cell
        self.window: Window = window
        self.domain, self.range = space, Space((space.shape[0], len(self.angles), *detector), space.dtype)
        self.register_buffer("frames", torch.from_numpy(self._trajectory(detector, offset)))
        self._projectors: dict[torch.device, Any] = {}
        _siddon()  # so that it complains now

    def forward(self, x: Tensor) -> Tensor:
        """Project: (B, C, X, Y, Z) -> (B, C, views, rows, columns)."""
        return linear(self._project, self._back_project, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project without a filter: (B, C, views, rows, columns) -> (B, C, X, Y, Z)."""
        return linear(self._back_project, self._project, y)

    def direct(self, y: Tensor) -> Tensor:
        """Filtered back-projection of a circle: exact in the plane of the source, good near it.

        Source: Feldkamp, Davis and Kress (1984), J. Opt. Soc. Am. A 1; weights of short scans as in `FanBeam`.
        """
        side = one_side(self.u, shadow(self.radius, self.R))
        weights = fan_weights(self.angles, np.arctan(self.u / self.R), side)
        return self._filtered(y, weights, missing_cells(self.u, shadow(self.radius, self.R)))

    def _filtered(self, y: Tensor, weights: NDArray[np.float64], beyond: tuple[int, int]) -> Tensor:
        """Weighted by rays, (views, columns), and their obliqueness, filtered along rows, back-projected."""
        oblique = self.R / np.sqrt(self.R**2 + self.u**2 + self.v[:, None] ** 2)
        w = torch.from_numpy(weights[:, None] * oblique).to(y)
        columns, rows = ((float(p[1] - p[0]) if len(p) > 1 else 1.0) for p in (self.u, self.v))
        q = ramp(F.pad(y * w, beyond), columns, self.window)
        first_row, first_column = float(self.v[0]), float(self.u[0]) - beyond[0] * columns

        def look(view: int, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            c, s = math.cos(self.angles[view]), math.sin(self.angles[view])
            U = 1 + (points[:, 0] * c + points[:, 1] * s) / self.R
            u = (points[:, 1] * c - points[:, 0] * s) / U
            height = points[:, 2] - float(self.heights[view])
            return (height / U - first_row) / rows, (u - first_column) / columns, self._share(view, height) / U**2

        return back_project_cone(q, self._voxels(y), look).unflatten(2, self.domain.shape[1:])

    def _share(self, view: int, height: Tensor) -> Tensor:
        """Weight of a view for voxels at a height above its source."""
        del view
        return torch.ones_like(height)

    def _voxels(self, like: Tensor) -> Tensor:
        """Positions in mm, (X * Y * Z, 3)."""
        sizes = zip(self.domain.shape[1:], self.voxel, strict=True)
        return torch.cartesian_prod(*((torch.arange(n) - n // 2).to(like) * mm for n, mm in sizes))

    def _trajectory(self, detector: tuple[int, int], offset: float) -> NDArray[np.float64]:
        """Source, middle of the detector, directions of its rows and columns, (4, views, 3).

        In mm from the middle of the volume, about which the kernels lay voxels, as they lay cells about the detector's.
        """
        c, s, zero = np.cos(self.angles), np.sin(self.angles), np.zeros(len(self.angles))
        ray, across, up = np.stack([c, s, zero], 1), np.stack([-s, c, zero], 1), np.stack([zero, zero, zero + 1], 1)
        sizes = zip(self.domain.shape[1:], self.voxel, strict=True)
        middle = np.array([(n // 2 - (n - 1) / 2) * mm for n, mm in sizes])
        axis = middle + self.heights[:, None] * up
        right, top = ((n - 1) / 2 - n // 2 for n in reversed(detector))
        shift = (right + offset) * self.cell[1] * across + top * self.cell[0] * up
        centre = axis + (self.L - self.R) * ray + shift
        return np.stack([axis - self.R * ray, centre, across, up])

    def _project(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self._diffct(x.device).project(x.transpose(2, 4).contiguous()).transpose(3, 4).contiguous()
        y: Tensor = _siddon().project(x.flatten(0, 1), *self._geometry(), self.range.shape[2:])
        return y.unflatten(0, x.shape[:2])

    def _back_project(self, y: Tensor) -> Tensor:
        if y.device.type != "cpu":
            return self._diffct(y.device).backproject(y.transpose(3, 4).contiguous()).transpose(2, 4).contiguous()
        x: Tensor = _siddon().back_project(y.flatten(0, 1), *self._geometry(), self.domain.shape[1:])
        return x.unflatten(0, y.shape[:2])

    def _geometry(self) -> tuple[NDArray[np.float64], ...]:
        return self.frames.double().numpy(), np.array(self.voxel, np.float64), np.array(self.cell, np.float64)

    def _diffct(self, device: torch.device) -> Any:  # noqa: ANN401 - a module without types
        """The same rays by diffct: its kernels for CUDA in float32, portable ones elsewhere."""
        if device not in self._projectors:
            double = self.domain.dtype == torch.float64
            fast = device.type == "cuda" and not double
            self._projectors[device] = _diffct().Projector(
                tuple(self.frames.to(device, self.domain.dtype)),
                self.domain.shape[:0:-1],
                self.range.shape[:1:-1],
                detector_spacing=self.cell[::-1],
                voxel_spacing=self.voxel[::-1],
                backend="auto" if fast else "torch",
                precision="fast" if fast else "float64" if double else "float32",
            )
        return self._projectors[device]


def _diffct() -> Any:  # noqa: ANN401 - a module without types
    try:
        with warnings.catch_warnings():  # it warns of a module of its own
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module("diffct")
    except ImportError:
        raise ConfigError('cone-beam CT on a GPU needs diffct; install it with pip install "invdiff[ct]"') from None


def _siddon() -> Any:  # noqa: ANN401 - compiled
    try:
        import_module("numba")
    except ImportError:
        raise ConfigError('cone-beam CT needs numba; install it with pip install "invdiff[ct]"') from None
    return import_module("invdiff.operators.siddon")


def _checked(space: Space, voxel: Sequence[float], source_to_axis: float, source_to_detector: float) -> float:
    """Distance in mm from the axis to the farthest voxel's centre; raises as `ConeBeam`."""
    if len(space.shape) != 4:
        raise ShapeError(f"cone-beam CT needs volumes of shape (C, X, Y, Z), found {space}")
    check_real(space, "cone-beam")
    if len(voxel) != 3 or not all(0 < mm < math.inf for mm in voxel):
        raise ConfigError(f"voxels need three sizes in mm, finite and > 0, got {tuple(voxel)}")
    edge = corner(space, voxel)
    check_distances(source_to_axis, source_to_detector, edge)
    if source_to_detector - source_to_axis < edge:
        raise ConfigError(
            f"the detector is {source_to_detector - source_to_axis:g} mm behind the axis, inside the volume, which "
            f"reaches to {edge:g} mm; give a larger source-to-detector distance, or crop the volume"
        )
    return math.hypot(*((n // 2) * mm for n, mm in zip(space.shape[1:3], voxel[:2], strict=True)))
