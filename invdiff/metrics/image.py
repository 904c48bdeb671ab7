"""PSNR, SSIM and NRMSE through scikit-image, each row with the protocol it was measured by."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from invdiff.errors import ShapeError

Array = NDArray[np.floating[Any]]
WINDOW = 11  # scikit-image's Gaussian window at sigma 1.5


def evaluate(
    image: Array, reference: Array, *, mask: NDArray[np.bool_] | None = None, ssim: Literal["2d", "3d"] = "2d"
) -> dict[str, Any]:
    """Compare one volume (X, Y, Z) with its reference.

    PSNR (dB) and NRMSE run over the volume, or over the mask. SSIM (Wang et al. 2004: Gaussian window, sigma 1.5)
    is the mean over slices across the third axis (`2d`) or of the volume at once (`3d`); with a mask, the mean of its
    map inside. `data_range` is max - min of the reference.

    Raises:
        ShapeError: other shape than the reference or mask, an empty mask, a constant reference, or an axis shorter
            than SSIM's window.
    """
    _check(image, reference, mask, ssim)
    x, ref = image.astype(np.float64), reference.astype(np.float64)
    data_range = float(ref.max() - ref.min())
    inside = np.ones(ref.shape, bool) if mask is None else mask
    similarity = _ssim_map(x, ref, data_range, ssim)
    return {
        "psnr": float(peak_signal_noise_ratio(ref[inside], x[inside], data_range=data_range)),
        "ssim": float(similarity[inside].mean()) if mask is not None else _cropped_mean(similarity, ssim),
        "nrmse": float(normalized_root_mse(ref[inside], x[inside])),
        "data_range": data_range,
        "ssim_mode": ssim,
        "window": "gaussian, sigma 1.5",
        "mask": mask is not None,
        "voxels": int(inside.sum()),
    }


def _ssim_map(x: Array, ref: Array, data_range: float, mode: str) -> Array:
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    if mode == "3d":
        return structural_similarity(ref, x, data_range=data_range, full=True, **settings)[1]
    # Slices as channels: scikit-image loops over them and keeps the window within each.
    return structural_similarity(ref, x, data_range=data_range, full=True, channel_axis=2, **settings)[1]


def _cropped_mean(similarity: Array, mode: str) -> float:
    """As scikit-image takes the mean: without the border that half a window covers."""
    pad = WINDOW // 2
    inner = similarity[pad:-pad, pad:-pad]
    return float((inner[:, :, pad:-pad] if mode == "3d" else inner).mean())


def _check(image: Array, reference: Array, mask: NDArray[np.bool_] | None, mode: str) -> None:
    for name, other in (("image", image), ("mask", mask)):
        if other is not None and other.shape != reference.shape:
            raise ShapeError(f"the {name} has shape {other.shape}, the reference {reference.shape}; give the same grid")
    if mask is not None and not mask.any():
        raise ShapeError("the mask is empty: nothing to compare")
    if reference.max() == reference.min():
        raise ShapeError("the reference is constant: PSNR and SSIM need a range of intensities")
    sides = reference.shape if mode == "3d" else reference.shape[:2]
    if min(sides) < WINDOW:
        raise ShapeError(f"SSIM's window has {WINDOW} voxels a side, the volume only {sides}; use a larger volume")
