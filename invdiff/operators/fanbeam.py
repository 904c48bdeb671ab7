"""Fan-beam CT with a flat detector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.operators.filtered import Window, back_project, check_window, fan_weights, missing_cells, one_side, ramp
from invdiff.operators.joseph import Rays
from invdiff.operators.tomography import MAX_BYTES, Projections, check_images, flat_detector, radians, reach
from invdiff.space import Space


class FanBeam(Projections):
    """Line integrals of (C, H, W) images along rays from a point; the range is (C, angles, detectors).

    Pixels have side 1 and the axis of rotation is the centre of pixel (H // 2, W // 2). At angle beta the central ray
    runs along (row, column) = (cos beta, sin beta), as that of `ParallelRadon` at theta = beta; the source lies
    `source_to_axis` before the axis, the detector, at right angles to the ray, `source_to_detector` behind the source.

    Args:
        space: real images, (C, H, W); channels are projected one by one.
        angles: beta in radians, at least one.
        source_to_axis: R, in pixels.
        source_to_detector: in pixels, at least R.
        detectors: number of cells; by default every pixel is seen under every angle. With fewer the projections are
            cut off, as in `ParallelRadon`.
        pitch: distance of the cells in pixels; by default such that rays are 1 pixel apart at the axis.
        offset: shift of the detector in cells; about a quarter of them for a half-fan. For pixels of another size
            than 1, e.g. in mm, divide all distances by it and use `mm * A`.
        window: of the filter of `direct`.
        max_bytes: most memory for matrices; above, they are built again each time they act.

    Raises:
        ConfigError: a source inside the image, a detector before the axis, and as `ParallelRadon`.
        ShapeError: images with another number of axes.
    """

    def __init__(
        self,
        space: Space,
        angles: Tensor | Sequence[float],
        source_to_axis: float,
        source_to_detector: float,
        detectors: int | None = None,
        *,
        pitch: float | None = None,
        offset: float = 0.0,
        window: Window = "ramp",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        check_images(space, "fan-beam")
        check_window(window)
        beta = radians(angles, "fan-beam")
        r = reach(*space.shape[1:]) + 1  # rays near a pixel see it, too
        check_distances(source_to_axis, source_to_detector, r)
        spacing = 1.0 if pitch is None else pitch * source_to_axis / source_to_detector  # at the axis
        u = flat_detector(shadow(r, source_to_axis), detectors, spacing, offset)
        gamma = np.arctan(u / source_to_axis)
        theta = beta[:, None] + gamma
        t = np.broadcast_to(source_to_axis * np.sin(gamma), theta.shape)
        super().__init__(space, Rays(np.cos(theta), np.sin(theta), t), max_bytes)
        self.angles, self.gamma, self.u = beta, gamma, u
        self.R, self.spacing, self.offset, self.window = source_to_axis, spacing, offset, window

    def direct(self, y: Tensor) -> Tensor:
        """Filtered back-projection of a full turn, a short scan (pi and the fan angle) or less.

        Lines that were measured twice share their weight smoothly, over the angle where the scan ends, over the
        detector where it is off the centre; lines that were not measured at all are missing.

        Source: Kak and Slaney (1988), section 3.4.2; weights as in `fan_weights`.
        """
        R, (H, W) = self.R, self.domain.shape[1:]
        needed = shadow(reach(H, W), R)
        weights = fan_weights(self.angles, self.gamma, one_side(self.u, needed)) * np.cos(self.gamma)
        beyond = missing_cells(self.u, needed)
        q = ramp(F.pad(y * torch.from_numpy(weights).to(y), beyond), self.spacing, self.window)
        row = (torch.arange(H, device=y.device, dtype=y.dtype) - H // 2)[:, None].expand(H, W).flatten()
        column = (torch.arange(W, device=y.device, dtype=y.dtype) - W // 2).expand(H, W).flatten()
        c, s = (torch.from_numpy(f(self.angles)[:, None]).to(y) for f in (np.cos, np.sin))
        middle = y.shape[-1] // 2 - self.offset + beyond[0]

        def look(views: Tensor) -> tuple[Tensor, Tensor]:
            U = 1 + (row * c[views] + column * s[views]) / R
            u = (column * c[views] - row * s[views]) / U
            return u / self.spacing + middle, U**-2

        return back_project(q, H * W, look).unflatten(2, (H, W))


def check_distances(source_to_axis: float, source_to_detector: float, r: float) -> None:
    """ConfigError when the source is within `r` of the axis, or the detector before the axis; any unit."""
    if not r < source_to_axis < math.inf:
        raise ConfigError(
            f"the source is {source_to_axis:g} from the axis, inside the image, which reaches to {r:g}; "
            "move it away, or crop the image"
        )
    if not source_to_axis <= source_to_detector < math.inf:
        raise ConfigError(
            f"the detector is {source_to_detector:g} from the source, nearer than the axis at {source_to_axis:g}; "
            "give a larger source-to-detector distance"
        )


def shadow(r: float, source_to_axis: float) -> float:
    """How far all within `r` of the axis is seen on a detector through the axis."""
    return r * source_to_axis / math.sqrt(source_to_axis**2 - r**2)


def corner(space: Space, voxel: Sequence[float]) -> float:
    """Distance in mm from the axis to the outermost corner of a voxel."""
    return math.hypot(*((n // 2 + 0.5) * mm for n, mm in zip(space.shape[1:3], voxel[:2], strict=True)))
