"""How good a denoised diffusion series is: against a reference where there is one, and without.

Tensors are fitted by dipy (weighted least squares, to all volumes), signals are at least 1e-3 of the mean without
weighting. All means run over the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_gradient_magnitude, label
from skimage.metrics import structural_similarity

from invdiff.errors import ConfigError, ShapeError
from invdiff.extras import dipy
from invdiff.metrics.image import WINDOW
from invdiff.volumes.gradients import Gradients

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
ANISOTROPIC = 0.2  # FA of the reference from which a direction means something


@dataclass(frozen=True, eq=False)
class Tensors:
    """Fractional anisotropy, mean diffusivity in mm^2/s, (X, Y, Z), and main direction, (X, Y, Z, 3)."""

    fa: Floats
    md: Floats
    direction: Floats


def fit(x: Floats, gradients: Gradients, mask: Mask) -> Tensors:
    """The tensors of a series (X, Y, Z, V) inside the mask, zero elsewhere.

    Raises:
        ConfigError: fewer than six directions, or no volume without weighting; dipy is missing.
    """
    model = _model(gradients, _least(x, gradients, mask))
    found = model.fit(x, mask=mask)
    return Tensors(np.nan_to_num(found.fa), np.nan_to_num(found.md), found.evecs[..., 0])


def against_reference(x: Floats, reference: Floats, gradients: Gradients, mask: Mask) -> dict[str, Any]:
    """PSNR and SSIM of each shell, errors of FA, MD and direction.

    PSNR is over the mask and all volumes of a shell, peak = greatest reference value there. SSIM is the mean over
    volumes and over the slices across the third axis of its map inside the mask. FA and MD: root mean square error and
    bias over the mask. Direction: mean angle in degrees where the reference's FA is at least 0.2.

    Raises:
        ShapeError: series or mask of other shapes; slices narrower than SSIM's window.
        ConfigError: as `fit`.
    """
    _check(x, reference, mask)
    shells = {0: np.flatnonzero(gradients.b0), **gradients.shells()}
    out: dict[str, Any] = {"shells": {}}
    for b, index in shells.items():
        if len(index):
            out["shells"][str(b)] = _likeness(x[..., index], reference[..., index], mask)
    ours, theirs = fit(x, gradients, mask), fit(reference, gradients, mask)
    for name in ("fa", "md"):
        error = (getattr(ours, name) - getattr(theirs, name))[mask]
        out |= {f"{name}_rmse": float(np.sqrt((error**2).mean())), f"{name}_bias": float(error.mean())}
    fibres = mask & (theirs.fa >= ANISOTROPIC)
    error = (ours.fa - theirs.fa)[fibres]
    cosine = abs((ours.direction * theirs.direction).sum(-1))[fibres]
    return out | {
        "fa_rmse_fibres": float(np.sqrt((error**2).mean())) if fibres.any() else None,
        "direction_degrees": float(np.degrees(np.arccos(np.clip(cosine, 0, 1))).mean()) if fibres.any() else None,
        "fibre_voxels": int(fibres.sum()),
    }


def without_reference(x: Floats, raw: Floats, gradients: Gradients, mask: Mask, folds: int = 3) -> dict[str, Any]:
    """What can be said of a denoised series and the raw one.

    `residual_edges` is the correlation, over the mask, of the residual's size with the edges of the mean image: 0 where
    noise alone was taken off, above 0.1 where anatomy was. `residual_between` is the correlation between
    the residuals of neighbouring voxels. `r2_raw` is how much of the variance of raw weighted volumes a tensor explains
    that was fitted to the denoised ones of the other folds; `r2_own` of the denoised volumes left out, which is high
    for whatever is smooth. SNR and CNR: see `callosum`.

    Raises:
        ShapeError, ConfigError: as `against_reference`.
    """
    _check(x, raw, mask)
    residual = raw - x
    edges = gaussian_gradient_magnitude(raw.mean(-1).astype(np.float64), 1.0)
    size = np.sqrt((residual.astype(np.float64) ** 2).mean(-1))
    both = mask[1:] & mask[:-1]
    out: dict[str, Any] = {
        "residual_std": float(residual[mask].std()),
        "residual_edges": _correlation(size[mask], edges[mask]),
        "residual_between": _correlation(residual[1:][both].ravel(), residual[:-1][both].ravel()),
    }
    own, there = _folds(x, raw, gradients, mask, folds)
    return out | {"r2_raw": there, "r2_own": own, "folds": folds} | callosum(x, raw, gradients, mask)


def callosum(x: Floats, raw: Floats, gradients: Gradients, mask: Mask) -> dict[str, float | None]:
    """SNR and CNR of the corpus callosum, as dipy's tutorial, DDM2 and Di-Fusion have them; None where none is found.

    Voxels of the middle half of the mask whose colour FA, by the raw series, is 0.6 to 1 left to right and at most 0.1
    otherwise; noise: what lies ten voxels or more outside of the mask, after denoising. A background set to zero
    makes both infinite: they say little of a method that looks at it.
    """
    dti = dipy("reconst.dti")
    tensors = _model(gradients, _least(raw, gradients, mask)).fit(raw, mask=mask)
    colours = dti.color_fa(np.nan_to_num(tensors.fa), tensors.evecs)
    found = _largest(_between(colours) & _middle(mask))
    noise = ~binary_dilation(mask, iterations=10)
    if not found.any() or not noise.any():
        return {"snr": None, "cnr": None}
    rows = x[..., ~gradients.b0]
    signal, background, spread = rows[found].mean(0), rows[noise].mean(0), rows[noise].std(0)
    if not (spread > 0).all():
        return {"snr": None, "cnr": None}
    return {"snr": float((signal / spread).mean()), "cnr": float(((signal - background) / spread).mean())}


def _between(colours: Floats) -> Mask:
    red, green, blue = np.moveaxis(colours, -1, 0)
    return (red >= 0.6) & (green <= 0.1) & (blue <= 0.1)


def _largest(mask: Mask) -> Mask:
    """What hangs together and is largest: dipy's `clean_cc_mask`, but for that of two of one size it is the first."""
    parts, count = label(mask)
    return parts == 1 + np.bincount(parts[mask] - 1).argmax() if count else mask


def _middle(mask: Mask) -> Mask:
    """The box of half the sides in the middle of the mask."""
    out = np.zeros_like(mask)
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        quarter = (used[-1] - used[0]) // 4
        box.append(slice(used[0] + quarter, used[-1] - quarter + 1))
    out[tuple(box)] = True
    return out


def _folds(x: Floats, raw: Floats, gradients: Gradients, mask: Mask, folds: int) -> tuple[float | None, float | None]:
    """R^2 of tensors from all folds but one, on the denoised and on the raw volumes of that one."""
    weighted = np.flatnonzero(~gradients.b0)
    if len(weighted) < 6 * folds // (folds - 1) + folds:
        return None, None
    said, own, there = [], x[..., weighted][mask], raw[..., weighted][mask]
    s0 = x[..., gradients.b0].mean(-1)
    for k in range(folds):
        left = weighted[k::folds]
        kept = np.setdiff1d(np.arange(len(gradients)), left)
        model = _model(gradients.rows(kept), _least(x, gradients, mask))
        found = model.fit(x[..., kept], mask=mask)
        said.append(found.predict(_table(gradients.rows(left)), S0=s0)[mask])
    order = np.argsort(np.concatenate([np.arange(len(weighted))[k::folds] for k in range(folds)]))
    guess = np.concatenate(said, -1)[:, order]
    return _explained(guess, own), _explained(guess, there)


def _explained(guess: Floats, truth: Floats) -> float:
    """Share of the variance over volumes, of all voxels together."""
    total = ((truth - truth.mean(1, keepdims=True)) ** 2).sum()
    return float(1 - ((truth - guess) ** 2).sum() / total)


def _likeness(x: Floats, reference: Floats, mask: Mask) -> dict[str, float]:
    error = float(((x - reference)[mask].astype(np.float64) ** 2).mean())
    peak = float(reference[mask].max())
    similar = [
        structural_similarity(r, v, data_range=float(r.max() - r.min()), full=True, channel_axis=2,
                              gaussian_weights=True, sigma=1.5, use_sample_covariance=False)[1][mask].mean()
        for v, r in zip(np.moveaxis(x, -1, 0), np.moveaxis(reference, -1, 0), strict=True)
    ]  # fmt: skip
    return {"psnr": float("inf") if error == 0 else 10 * np.log10(peak**2 / error), "ssim": float(np.mean(similar))}


def _correlation(a: Floats, b: Floats) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else None


def _least(x: Floats, gradients: Gradients, mask: Mask) -> float:
    return max(1e-3 * float(x[..., gradients.b0][mask].mean()), 1e-12) if gradients.b0.any() else 1e-12


def _table(gradients: Gradients) -> Any:  # noqa: ANN401 - of dipy
    return dipy("core.gradients").gradient_table(gradients.bvals, bvecs=gradients.bvecs, b0_threshold=50)


def _model(gradients: Gradients, least: float) -> Any:  # noqa: ANN401 - of dipy
    weighted = int((~gradients.b0).sum())
    if weighted < 6 or not gradients.b0.any():
        raise ConfigError(
            f"a tensor needs six weighted volumes and one without weighting, the series has {weighted} and "
            f"{int(gradients.b0.sum())}"
        )
    return dipy("reconst.dti").TensorModel(_table(gradients), min_signal=least)


def _check(x: Floats, reference: Floats, mask: Mask) -> None:
    if x.shape != reference.shape:
        raise ShapeError(f"the series has shape {x.shape}, the other one {reference.shape} (x, y, z, volumes)")
    if mask.shape != x.shape[:3]:
        raise ShapeError(f"the mask has shape {mask.shape}, the series {x.shape[:3]}; give the same grid")
    if not mask.any():
        raise ShapeError("the mask is empty: nothing to compare")
    if min(x.shape[:2]) < WINDOW:
        raise ShapeError(
            f"SSIM's window has {WINDOW} voxels a side, the slices only {x.shape[:2]}; use a larger series"
        )
