"""The noise-power spectrum of a region that is flat but for noise (ICRU 87; AAPM TG-233)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from invdiff.errors import ShapeError

LEAST, MOST = 16, 64  # voxels along a side of a patch
Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NoisePower:
    """A noise-power spectrum in two dimensions, averaged over directions.

    Attributes:
        frequency: mean frequencies of rings around zero, 1/mm, ascending; up to the lower of both Nyquist frequencies.
        power: mean over each ring, intensity^2 mm^2: HU^2 mm^2 for CT.
        noise: standard deviation, the root of the integral over all frequencies.
        patches: how many periodograms it is the mean of.
        side: voxels along a side of these.
    """

    frequency: NDArray[np.float64]
    power: NDArray[np.float64]
    noise: float
    patches: int
    side: int

    @property
    def mean_frequency(self) -> float:
        """Of the curve, 1/mm: half of its last one for white noise, less for coarser grain; NaN without noise."""
        f, power = np.append(0, self.frequency), np.append(self.power[0], self.power)
        total = trapezoid(power, f)
        return float(trapezoid(f * power, f) / total) if total else float("nan")

    @property
    def peak_frequency(self) -> float:
        """Where the curve is highest, 1/mm."""
        return float(self.frequency[self.power.argmax()])

    @property
    def peak(self) -> float:
        """The curve's highest value, intensity^2 mm^2."""
        return float(self.power.max())

    def facts(self) -> dict[str, Any]:
        """The curve, for JSON."""
        return {
            "unit": "intensity^2 mm^2",
            "power": self.power.tolist(),
            "frequency_unit": "1/mm",
            "frequency": self.frequency.tolist(),
            "patches": self.patches,
            "side": self.side,
        }


def noise_power(volume: Floats, mask: Mask, spacing: tuple[float, float]) -> NoisePower:
    """The spectrum in the slices across the third axis, from square patches inside of the mask.

    Patches are of one size, the largest of 16 to 64 voxels a side that fits into at least half of the slices of the
    mask, and overlap by half. A polynomial of second order is fitted to each and taken off; NPS = dx dy / n^2 |DFT|^2
    of the rest, averaged. What the fit takes of white noise, half of the first ring and next to nothing from the third
    on, is given back ring by ring.

    Args:
        volume: (X, Y, Z).
        mask: (X, Y, Z), True in the region.
        spacing: voxel size along the first and the second axis in mm.

    Raises:
        ShapeError: a mask of another shape, or one that holds no square of 16 x 16 voxels.
    """
    if mask.shape != volume.shape:
        raise ShapeError(f"the mask has shape {mask.shape}, the volume {volume.shape}; give the same grid")
    counts = _counts(mask)
    side = _side(counts, int(mask.any((0, 1)).sum()))
    patches = np.stack([volume[i : i + side, j : j + side, k] for i, j, k in _corners(counts, side)]).astype(np.float64)
    surfaces = _surfaces(side)
    rows = patches.reshape(len(patches), -1)
    rows -= rows @ surfaces.T @ surfaces
    power = _squared(rows.reshape(patches.shape)).mean(0) * spacing[0] * spacing[1] / side**2
    kept = 1 - _squared(surfaces.reshape(-1, side, side)).sum(0) / side**2
    return _averaged(power, kept, spacing, len(patches))


def _averaged(power: Floats, kept: Floats, spacing: tuple[float, float], patches: int) -> NoisePower:
    """Over rings as wide as the coarser step between frequencies; `kept` is what the detrending left of white noise."""
    side = len(power)
    x, y = (np.fft.fftfreq(side, d) for d in spacing)
    frequency = np.hypot(x[:, None], y)
    width = 1 / (side * min(spacing))
    # Of zero frequency nothing is kept: it has the power of the first ring.
    ring = np.maximum(np.rint(frequency / width), 1).astype(int).ravel() - 1
    count, left, total, place = (
        np.bincount(ring, v.ravel()) for v in (np.ones_like(power), kept, power, kept * frequency)
    )
    curve = total / left
    variance = float((curve * count).sum()) / (side**2 * spacing[0] * spacing[1])
    last = int(0.5 / max(spacing) / width * (1 + 1e-9))
    return NoisePower((place / left)[:last], curve[:last], math.sqrt(variance), patches, side)


def _squared(images: Floats) -> NDArray[np.float64]:
    """Absolute squares of the discrete Fourier transform of each image (P, n, n)."""
    return np.abs(np.fft.fft2(images)) ** 2


def _surfaces(n: int) -> NDArray[np.float64]:
    """Polynomials of second order on n x n voxels, orthonormal, (6, n * n)."""
    t = np.linspace(-1, 1, n)
    u, v = np.repeat(t, n), np.tile(t, n)
    return np.linalg.qr(np.stack([np.ones(n * n), u, v, u * u, u * v, v * v], 1))[0].T


def _side(counts: Counts, slices: int) -> int:
    for n in range(MOST, LEAST - 1, -1):
        fitting = int(_fits(counts, n).any((0, 1)).sum())
        if fitting and (2 * fitting >= slices or n == LEAST):
            return n
    raise ShapeError(
        f"no slice of the mask holds a square of {LEAST} x {LEAST} voxels, which a noise-power spectrum needs; draw a "
        "larger flat region"
    )


def _counts(mask: Mask) -> Counts:
    """Voxels of the mask before this one along both axes of its slice, (X + 1, Y + 1, Z)."""
    return np.pad(mask, ((1, 0), (1, 0), (0, 0))).astype(np.int32).cumsum(0).cumsum(1)


def _fits(counts: Counts, n: int) -> Mask:
    """Whether a square of n x n voxels that begins here lies inside, (X - n + 1, Y - n + 1, Z)."""
    return counts[n:, n:] - counts[:-n, n:] - counts[n:, :-n] + counts[:-n, :-n] == n * n


def _corners(counts: Counts, n: int) -> Iterator[tuple[int, int, int]]:
    """Where patches begin, half a side apart."""
    fits = _fits(counts, n)
    for k in np.flatnonzero(fits.any((0, 1))):
        rows = np.flatnonzero(fits[..., k].any(1))
        for i in range(rows[0], rows[-1] + 1, n // 2):
            columns = np.flatnonzero(fits[i, :, k])
            if len(columns):
                yield from ((i, j, int(k)) for j in range(columns[0], columns[-1] + 1, n // 2) if fits[i, j, k])
