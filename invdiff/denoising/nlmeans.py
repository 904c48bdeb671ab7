"""Non-local means (Coupe et al., IEEE TMI 2008), by dipy: each volume by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_doc import Doc
from annotated_types import Ge

from invdiff.denoising.base import Denoiser, Floats, Run, Series
from invdiff.extras import dipy


@dataclass(frozen=True, kw_only=True)
class NLMeans(Denoiser):
    """Means of voxels whose surroundings look alike, volume by volume."""

    paper: ClassVar[str] = (
        "Coupe et al., An optimized blockwise nonlocal means denoising filter for 3-D magnetic resonance images, "
        "IEEE TMI 2008"
    )
    fewest: ClassVar[int] = 1

    patch_radius: Annotated[int, Ge(1), Doc("Radius of what is compared, in voxels.")] = 1
    block_radius: Annotated[int, Ge(1), Doc("Radius of where it is looked for, in voxels.")] = 2
    rician: Annotated[bool, Doc("Take off the bias of magnitudes, too.")] = False

    def denoise(self, series: Series, run: Run) -> Floats:
        """All volumes at the level of the noise inside the mask."""
        del run
        nlmeans = dipy("denoise.nlmeans").nlmeans
        out = nlmeans(
            series.data.astype(np.float64),
            sigma=series.level,
            patch_radius=self.patch_radius,
            block_radius=self.block_radius,
            rician=self.rician,
            method="classic",
        )
        return np.asarray(out, np.float32)
