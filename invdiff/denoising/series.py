"""`denoise`: a diffusion series in, the same without its noise out, at its place, with its scale and its b0s."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff import config
from invdiff.denoising.base import Denoiser, Floats, Run, Series
from invdiff.denoising.mppca import MPPCA, analysed
from invdiff.denoising.rician import unbiased
from invdiff.errors import ConfigError, DivergedError, ShapeError
from invdiff.extras import dipy
from invdiff.volumes import Volume
from invdiff.volumes.gradients import Gradients
from invdiff.volumes.layout import volumewise, voxelwise

CLEAN = 0.005  # of the signal without weighting: with less noise there is nothing to do


@dataclass(frozen=True, eq=False)
class Denoised:
    """A denoised series.

    Attributes:
        volume: (V, X, Y, Z), on the grid and with the header of the input.
        noise: map of the noise's standard deviation, one frame.
        residual: input less output, (V, X, Y, Z).
        mask: where there is tissue, (X, Y, Z).
        facts: method, settings, noise level, seconds, warnings; JSON-able.
    """

    volume: Volume
    noise: Volume
    residual: Volume
    mask: NDArray[np.bool_]
    facts: dict[str, Any]


def denoise(
    volume: Volume,
    gradients: Gradients,
    method: Denoiser,
    *,
    mask: NDArray[np.bool_] | None = None,
    b0: Literal["keep", "denoise"] = "keep",
    rician: bool = False,
    run: Run | None = None,
) -> Denoised:
    """Take the noise off a series.

    The noise map is MP-PCA's. Where its median inside the mask is below 0.5 % of the mean signal without weighting, the
    series comes back as it is, and `facts["warnings"]` says so. Voxels that are 0 in all volumes stay so.

    Args:
        volume: (V, X, Y, Z), real.
        gradients: one row per volume.
        method: and its settings.
        mask: where there is tissue, (X, Y, Z); by default dipy's `median_otsu` of the mean without weighting.
        b0: whether volumes without weighting stay as they were measured.
        rician: take off the bias of magnitudes afterwards.
        run: how a method that takes long is run.

    Raises:
        ConfigError: b-values of another number of volumes, too few volumes for the method, dipy missing.
        ShapeError: a mask of another shape, or an empty one.
        DivergedError: the result is not finite.
    """
    began, run = time.perf_counter(), run or Run()
    data = voxelwise(volume.data)
    if len(gradients) != data.shape[3]:
        raise ConfigError(f"{len(gradients)} b-values for {data.shape[3]} volumes; give the table of this series")
    seen = found_mask(data, gradients) if mask is None else _checked(mask, data.shape)
    empty = Series(data, gradients, seen, np.zeros(data.shape[:3], np.float32), data)
    method.check(empty)
    MPPCA().check(empty)
    components, sigma = analysed(data)
    series = replace(empty, sigma=sigma, components=components)
    signal = float(data[..., gradients.b0 if gradients.b0.any() else slice(None)][seen].mean())
    facts: dict[str, Any] = {"method": config.dump(method), "volumes": len(gradients), "b0": b0, "rician": rician}
    facts |= {"shells": {str(b): len(index) for b, index in gradients.shells().items()}}
    facts |= {"noise": series.level, "noise_of_signal": series.level / signal, "warnings": []}
    if series.level < CLEAN * signal:
        told = f"the noise is {100 * series.level / signal:.2g} % of the signal, below 0.5 %: nothing was changed"
        facts["warnings"].append(told)
        clean = data
    else:
        clean = method.denoise(series, run)
        if not np.isfinite(clean).all():
            raise DivergedError(f"{type(method).__name__} gave numbers that are not finite; lower learning_rate")
        clean = _finished(clean, series, b0, rician)
    facts["seconds"] = round(time.perf_counter() - began, 2)
    back = volumewise(clean)
    noise = volume.like(torch.from_numpy(np.ascontiguousarray(sigma))[None], series=False)
    return Denoised(volume.like(back), noise, volume.like(volume.data - back), seen, facts)


def _finished(clean: Floats, series: Series, b0: str, rician: bool) -> Floats:
    out = unbiased(clean, series.sigma) if rician else clean.astype(np.float32)
    out[~series.data.any(-1)] = 0  # never measured, or cut out
    if b0 == "keep":
        out[..., series.gradients.b0] = series.data[..., series.gradients.b0]
    return out


def found_mask(data: Floats, gradients: Gradients) -> NDArray[np.bool_]:
    """dipy's median filter and Otsu threshold, of the mean without weighting."""
    mean = data[..., gradients.b0 if gradients.b0.any() else slice(None)].mean(-1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="threshold_otsu")  # three or four slices may look like colours
        found = dipy("segment.mask").median_otsu(mean, median_radius=2, numpass=1)[1]
    return found if found.any() else np.ones(mean.shape, bool)


def _checked(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask.shape != shape[:3]:
        raise ShapeError(f"the mask has shape {mask.shape}, the series {shape[:3]}; give the same grid")
    if not mask.any():
        raise ShapeError("the mask is empty: nothing to denoise")
    return mask
