"""Patch2Self (Fadnavis et al., NeurIPS 2020), by dipy: each volume from all others, by one linear regression.

dipy's first version is the published one; its third fits to sketches of the data and leaves 1.6 times the error (0.66
of the noise for 0.42, on a phantom). In dipy 1.12.1 the first loses the mean of each volume, since scikit-learn centres
the data in place; a regression with a constant keeps it, so that it is put back here.
"""

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
        x, kept = series.data, series.gradients.b0 & (series.gradients.b0.sum() == 1)
        out = patch2self(x, series.gradients.bvals, model=self.model, version=1, shift_intensity=False)
        out = out + (x.mean((0, 1, 2)) - out.mean((0, 1, 2)))
        return np.where(kept, x, out).astype(np.float32)
