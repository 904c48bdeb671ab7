"""Parallel-beam CT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from invdiff.operators.filtered import Window, back_project, check_window, missing_cells, one_side, quadrature, ramp
from invdiff.operators.joseph import Rays
from invdiff.operators.tomography import MAX_BYTES, Projections, check_images, flat_detector, radians, reach
from invdiff.space import Space


class ParallelRadon(Projections):
    """Line integrals of (C, H, W) images along parallel rays; the range is (C, angles, detectors).

    The geometry is that of `skimage.transform.radon(circle=False)`: pixels have side 1, the axis of rotation is the
    centre of pixel (H // 2, W // 2), cell d lies at t = (d - detectors // 2 + offset) * pitch, and its ray is the line
    column cos(theta) - row sin(theta) = t, with rows and columns counted from the axis.

    Args:
        space: real images, (C, H, W); channels are projected one by one.
        angles: theta in radians, at least one.
        detectors: number of cells; by default every pixel is seen under every angle. With fewer the projections are
            cut off, which least squares can bear, and filtered back-projection shows as a bright rim.
        pitch: distance of the cells in pixels.
        offset: shift of the detector in cells. For pixels of another size than 1, e.g. in mm, use `mm * A`.
        window: of the filter of `direct`.
        max_bytes: most memory for matrices; above, they are built again each time they act.

    Raises:
        ConfigError: complex images, no detectors, no angles, angles that look like degrees, no such window.
        ShapeError: images with another number of axes.
    """

    def __init__(
        self,
        space: Space,
        angles: Tensor | Sequence[float],
        detectors: int | None = None,
        *,
        pitch: float = 1.0,
        offset: float = 0.0,
        window: Window = "ramp",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        check_images(space, "parallel-beam")
        check_window(window)
        theta = radians(angles, "parallel-beam")
        t = flat_detector(reach(*space.shape[1:]), detectors, pitch, offset)
        # math's and numpy's sines may differ in the last bit; one of them was chosen when measurements were stored.
        c, s = (np.array([[f(angle)] for angle in theta.tolist()]) for f in (math.cos, math.sin))
        c, s, t = np.broadcast_arrays(c, s, t)
        super().__init__(space, Rays(c, s, t), max_bytes)
        self.angles, self.pitch, self.offset, self.window = theta, pitch, offset, window

    def direct(self, y: Tensor) -> Tensor:
        """Filtered back-projection; views in any order, each weighted by the angle that it stands for.

        Where a full turn was measured by a detector off the centre, lines that it saw twice count half each.
        """
        weights, beyond = quadrature(self.angles, math.pi)[0][:, None], (0, 0)
        t, needed = self.rays.t[0], reach(*self.domain.shape[1:])
        if quadrature(self.angles, 2 * math.pi)[2] > 2 * math.pi - 1e-6:
            m = one_side(t, needed)
            weights = weights * 2 * m[0] / m.sum(0)
            beyond = missing_cells(t, needed)
        q = ramp(F.pad(y * torch.from_numpy(weights).to(y), beyond), self.pitch, self.window)
        H, W = self.domain.shape[1:]
        row = (torch.arange(H, device=y.device, dtype=y.dtype) - H // 2)[:, None].expand(H, W).flatten()
        column = (torch.arange(W, device=y.device, dtype=y.dtype) - W // 2).expand(H, W).flatten()
        c, s = (torch.from_numpy(a[:, :1].copy()).to(y) for a in (self.rays.cos, self.rays.sin))
        middle = y.shape[-1] // 2 - self.offset + beyond[0]

        def look(views: Tensor) -> tuple[Tensor, Tensor]:
            t = column * c[views] - row * s[views]
            return t / self.pitch + middle, torch.ones_like(t)

        return back_project(q, H * W, look).unflatten(2, (H, W))
