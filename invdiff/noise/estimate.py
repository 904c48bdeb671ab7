"""How strong the noise of a real scan is: from a noise scan, the edge of k-space, an image, or counts.

All levels are standard deviations per real component, in the units of what they were measured on.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pywt  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.special import ive
from skimage.restoration import estimate_sigma
from torch import Tensor

from invdiff.errors import ConfigError

Floats = NDArray[np.float64]
MAD = 0.6744897501960817  # median of |n| for n ~ N(0, 1)
EDGE = 0.05  # part of the samples that counts as the edge of k-space
FEWEST = 50  # real numbers that a robust level needs: its own standard error is then about 12 %


def covariance(noise: Tensor) -> Tensor:
    """Covariance between coils, E[n n^H], (coils, coils) complex128, from a noise scan (samples, coils).

    Raises:
        ConfigError: fewer samples than twice the coils: the covariance could not be inverted safely.
    """
    samples, coils = noise.shape
    if samples < 2 * coils:
        raise ConfigError(f"{samples} noise samples are too few for {coils} coils; give --sigma to do without them")
    n = noise.to(torch.complex128)
    return n.mT @ n.conj() / samples


def whitener(covariance: Tensor) -> tuple[Tensor, float]:
    """W (coils, coils) such that W n is white, and the standard deviation of W n per real component.

    W = s L^-1 with the Cholesky factor covariance = L L^H (Pruessmann et al., MRM 2001) and s^2 the mean variance of
    the coils, so that the numbers keep their size.

    Raises:
        ConfigError: a coil without noise, or coils that repeat each other.
    """
    L, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed) or float(L.diagonal().abs().min()) < 1e-6 * float(L.diagonal().abs().max()):
        raise ConfigError("the noise of the coils is degenerate (one is silent, or two are the same); leave it out")
    variance = float(covariance.diagonal().real.mean())
    W = torch.linalg.solve_triangular(L, torch.eye(len(L), dtype=L.dtype), upper=False)
    return variance**0.5 * W, (variance / 2) ** 0.5


def from_edge(kspace: Tensor, measured: Tensor) -> float:
    """From the outermost samples in both directions, where little signal is left: their median absolute value.

    Biased upwards: what signal is left there counts as noise, so sharp images at high signal-to-noise ratio look
    noisier than they are. Coils are pooled by their variances.

    Args:
        kspace: (P, coils, H, W) complex, DC in the middle.
        measured: (H, W) bool; the edge is the outermost 5 % of what was measured.

    Raises:
        ConfigError: too few samples for a level.
    """
    h, w = measured.shape
    distance = torch.minimum(_off_centre(h)[:, None], _off_centre(w)[None, :])
    inside = distance[measured]
    count = max(1, round(EDGE * len(inside)))
    outermost = kspace[..., measured][..., inside.argsort(descending=True, stable=True)[:count]]
    reals = torch.view_as_real(outermost.movedim(1, 0).resolve_conj()).flatten(1)
    if reals.shape[1] < FEWEST:
        raise ConfigError(f"{reals.shape[1]} samples at the edge of k-space tell no noise level; give --sigma")
    return float((reals.abs().median(1).values / MAD).double().square().mean().sqrt())


def from_image(images: Tensor, law: Literal["gaussian", "rician"] = "gaussian") -> float:
    """From the finest wavelet coefficients of each image, the median over images; images without texture say 0.

    Gaussian: scikit-image's `estimate_sigma` (Donoho and Johnstone, Biometrika 1994). Rician magnitudes: the same, but
    each coefficient is first corrected for the signal around it (as Coupe et al., Med. Image Anal. 2010, do for the
    object as a whole), because the noise of a magnitude is weaker where there is no signal. Biased upwards by fine
    texture, and downwards by images that were smoothed or interpolated after they were measured.

    Args:
        images: (P, 1, H, W) real.
        law: of the noise.
    """
    one = _gaussian if law == "gaussian" else _rician
    levels = [s for s in map(one, images[:, 0].double().numpy()) if s > 0]
    return float(np.median(levels)) if levels else 0.0


def from_counts(counts: Tensor) -> Tensor:
    """Standard deviation of log(I0 / N) for Poisson counts N, first order: 1 / sqrt(N); a count of 0 taken for 1/2."""
    return counts.clamp(min=0.5).rsqrt()


def _off_centre(n: int) -> Tensor:
    """Distance from DC at index n // 2, 1 at the ends."""
    return (torch.arange(n) - n // 2).abs() / max(1, n // 2)


def _gaussian(image: Floats) -> float:
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # an empty image has no coefficients: their median is NaN
        sigma = float(estimate_sigma(image))
    return sigma if np.isfinite(sigma) else 0.0


def _rician(image: Floats) -> float:
    """Wavelet coefficients, each divided by the spread of a magnitude at its local signal, until the level agrees."""
    high = pywt.dwt2(image, "db2", mode="periodization")[1][2]
    power = uniform_filter(image**2, size=5)[::2, ::2]
    kept = high != 0  # background that the scanner set to zero tells nothing
    if not kept.any():
        return 0.0
    deviations, power = np.abs(high[kept]), power[kept]
    sigma = float(np.median(deviations)) / MAD
    for _ in range(30):
        snr2 = np.clip(power / sigma**2 - 2, 0, None)
        sigma = float(np.median(deviations / np.sqrt(variance_ratio(snr2)))) / MAD
    return sigma


def variance_ratio(snr2: Floats) -> Floats:
    """Variance of a Rician magnitude over sigma^2, from (clean / sigma)^2: 2 - pi / 2 at 0, 1 far above.

    Koay and Basser, J. Magn. Reson. 2006.
    """
    t = np.minimum(snr2, 1e4) / 4  # beyond, the difference of two large numbers would lose its digits
    bessel = (2 + 4 * t) * ive(0, t) + 4 * t * ive(1, t)  # ive holds exp(-t): squared, the exp(-snr^2 / 2) of the paper
    return np.where(snr2 < 1e4, 2 + 4 * t - np.pi / 8 * bessel**2, 1.0)
