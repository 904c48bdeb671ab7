"""MP-PCA (Veraart et al., NeuroImage 2016), by dipy: local principal components above what noise alone would have."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_doc import Doc
from annotated_types import Ge
from scipy.ndimage import distance_transform_edt

from invdiff.denoising.base import Denoiser, Floats, Run, Series
from invdiff.extras import dipy


@dataclass(frozen=True, kw_only=True)
class MPPCA(Denoiser):
    """Principal components of sliding patches, those of pure noise left out."""

    paper: ClassVar[str] = "Veraart et al., Denoising of diffusion MRI using random matrix theory, NeuroImage 2016"
    fewest: ClassVar[int] = 6

    patch_radius: Annotated[
        int, Ge(0), Doc("Patches are cubes of 2 r + 1 voxels; 0: of at least as many voxels as there are volumes.")
    ] = 0

    def denoise(self, series: Series, run: Run) -> Floats:
        """All volumes, with or without weighting."""
        del run
        return analysed(series.data, self.patch_radius)[0] if self.patch_radius else series.components


def analysed(x: Floats, radius: int = 0) -> tuple[Floats, Floats]:
    """The series (X, Y, Z, V) denoised, and the map of the noise, (X, Y, Z).

    Patches whose components never look like noise, as at the rim of a brain whose background was set to zero, say
    nothing of it (dipy: NaN): there the map has what the nearest voxel has, and 0 where the series is 0.
    """
    mppca = dipy("denoise.localpca").mppca
    radii = [min(radius, (n - 1) // 2) for n in x.shape[:3]] if radius else patch(x.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of those patches
        clean, sigma = mppca(x, patch_radius=np.array(radii), return_sigma=True, suppress_warning=True)
    return clean.astype(np.float32), np.where(x.any(-1), _nearest(sigma), 0).astype(np.float32)


def _nearest(sigma: Floats) -> Floats:
    """Without NaN; 0 where all is."""
    unknown = ~np.isfinite(sigma)
    if unknown.all():
        return np.zeros_like(sigma)
    nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return sigma[tuple(nearest)]


def patch(shape: tuple[int, ...]) -> list[int]:
    """Radii along x, y and z: 2 as is usual, more where a patch would have fewer voxels than there are volumes."""
    for radius in range(2, 1 + max(shape[:3]) // 2):
        radii = [min(radius, (n - 1) // 2) for n in shape[:3]]
        if np.prod([2 * r + 1 for r in radii]) > shape[3]:
            return radii
    return [(n - 1) // 2 for n in shape[:3]]
