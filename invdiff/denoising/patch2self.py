"""Patch2Self (Fadnavis et al., NeurIPS 2020), by dipy: each volume from all others, by one linear regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_doc import Doc

from invdiff.denoising.base import Denoiser, Floats, Run, Series
from invdiff.extras import dipy


@dataclass(frozen=True, kw_only=True)
class Patch2Self(Denoiser):
    """Self-supervised linear prediction; volumes with and without weighting by themselves."""

    paper: ClassVar[str] = (
        "Fadnavis et al., Patch2Self: denoising diffusion MRI with self-supervised learning, NeurIPS 2020"
    )
    fewest: ClassVar[int] = 10

    model: Annotated[Literal["ols", "ridge", "lasso"], Doc("The regression.")] = "ols"

    def denoise(self, series: Series, run: Run) -> Floats:
        """All volumes; a single one without weighting is left as it is."""
        del run
        patch2self = dipy("denoise.patch2self").patch2self
        out = patch2self(series.data, series.gradients.bvals, model=self.model, shift_intensity=False)
        return out.astype(np.float32)
