"""What a report measures itself: the metrics of images against a reference, of the volume and slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from invdiff.errors import ShapeError
from invdiff.metrics import evaluate

if TYPE_CHECKING:
    from invdiff_cli.report.views import Array, Scan

COMPARED = ("direct", "tv", "mean")


def of_volume(scan: Scan) -> list[dict[str, Any]]:
    """PSNR, SSIM and NRMSE of each image against the reference, a row each; none where they cannot be taken."""
    if "reference" not in scan.images:
        return []
    reference = scan.images["reference"].stored
    try:
        with np.errstate(divide="ignore"):  # equal volumes: their PSNR is infinite
            return [
                {"method": image.title.lower(), "frame": scan.frame, **evaluate(image.stored, reference)}
                for role, image in scan.images.items()
                if role in COMPARED
            ]
    except ShapeError:  # a constant reference, or fewer voxels than SSIM's window
        return []


def psnr_of_slices(scan: Scan) -> dict[str, Array]:
    """PSNR in dB of each slice along the third stored axis, by role; NaN where it cannot be taken or is infinite."""
    if "reference" not in scan.images:
        return {}
    reference = scan.images["reference"].stored
    return {role: _psnr(image.stored, reference) for role, image in scan.images.items() if role in COMPARED}


def sizes_of_slices(scan: Scan) -> dict[str, Array]:
    """Root mean square of error and uncertainty in each slice along the third stored axis, by role."""
    spreads = {role: scan.images[role].stored for role in ("error", "std") if role in scan.images}
    return {role: np.sqrt(np.square(x).mean((0, 1))) for role, x in spreads.items()}


def _psnr(x: Array, reference: Array) -> Array:
    span = np.ptp(reference, axis=(0, 1))
    found = np.full(x.shape[2], np.nan, np.float32)
    with np.errstate(divide="ignore"):
        for k in np.flatnonzero(span):
            found[k] = peak_signal_noise_ratio(reference[..., k], x[..., k], data_range=float(span[k]))
    return np.where(np.isfinite(found), found, np.float32(np.nan))
