"""Cone-beam CT on a helix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.operators.cone import ConeBeam
from invdiff.operators.fanbeam import shadow
from invdiff.operators.filtered import Window, missing_cells, one_side
from invdiff.space import Space


class Helical(ConeBeam):
    """Cone-beam CT whose source rises while it turns, by `feed` in each turn, half of the way below voxel Z // 2.

    Args:
        space: real volumes, (C, X, Y, Z).
        views: number of views.
        turns: that they are spread over.
        source_to_axis: R, in mm.
        source_to_detector: in mm, at least R.
        detector: rows and columns.
        feed: rise of the source in each turn, in mm.
        voxel: size of a voxel in mm along X, Y and Z.
        cell: height and width of a detector cell in mm.
        offset: shift of the detector along its rows, in cells.
        window: of the filter of `direct`.

    Raises:
        ConfigError: no views or turns, a feed that is not finite, and as `ConeBeam`.
        ShapeError: volumes with another number of axes.
    """

    def __init__(
        self,
        space: Space,
        views: int,
        turns: float,
        source_to_axis: float,
        source_to_detector: float,
        detector: tuple[int, int],
        *,
        feed: float,
        voxel: Sequence[float] = (1.0, 1.0, 1.0),
        cell: tuple[float, float] = (1.0, 1.0),
        offset: float = 0.0,
        window: Window = "ramp",
    ) -> None:
        if views < 1 or not 0 < turns < math.inf or not math.isfinite(feed):
            raise ConfigError(f"a helix needs views, turns and a finite feed, got {views}, {turns:g} and {feed:g} mm")
        progress = (np.arange(views) + 0.5) / views - 0.5  # from -1/2 to 1/2
        super().__init__(
            space,
            2 * math.pi * turns * progress,
            source_to_axis,
            source_to_detector,
            detector,
            voxel=voxel,
            cell=cell,
            offset=offset,
            window=window,
            heights=feed * turns * progress,
        )
        self.turns, self.feed = turns, feed

    def direct(self, y: Tensor) -> Tensor:
        """Filtered back-projection of the turn about each voxel's height; of what there is of it at the ends.

        An approximation, good for a small feed: as for a circle about each slice, of a cone that is looked at from
        changing heights (Wang, Lin, Cheng and Shinozaki 1993, IEEE Trans. Med. Imaging 12).
        """
        step = 2 * math.pi * self.turns / len(self.angles)
        needed = shadow(self.radius, self.R)
        m = one_side(self.u, needed)
        weights = np.broadcast_to(step * m[0] / m.sum(0), (len(self.angles), len(self.u)))
        x = self._filtered(y, weights, missing_cells(self.u, needed))
        z = self._voxels(y).unflatten(0, self.domain.shape[1:])[0, 0, :, 2]
        shares = sum(self._share(view, z - float(self.heights[view])) for view in range(len(self.angles)))
        return x * (2 * math.pi / step) / torch.as_tensor(shares).clamp_min(1e-6)

    def _share(self, view: int, height: Tensor) -> Tensor:
        """1 within half a turn, 0 beyond, in between for the views where it ends."""
        del view
        if self.feed == 0:
            return torch.ones_like(height)
        per_view = abs(self.feed) * self.turns / len(self.angles)
        return (0.5 + (abs(self.feed) / 2 - height.abs()) / per_view).clamp(0, 1)
