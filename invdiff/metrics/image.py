"""How far an image is from its reference: over the volume, slice by slice and region by region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio

from invdiff.errors import ConfigError, ShapeError
from invdiff.metrics.hfen import fine_detail
from invdiff.metrics.protocol import INVDIFF, Protocol
from invdiff.metrics.ssim import ssim_map

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Row = dict[str, Any]
Box = tuple[slice, ...]
WINDOW = INVDIFF.side
WHOLE = (slice(None),) * 3


def evaluate(
    image: Array,
    reference: Array,
    *,
    mask: Mask | None = None,
    ssim: Literal["2d", "3d"] | None = None,
    protocol: Protocol = INVDIFF,
) -> Row:
    """Compare one volume (X, Y, Z), or slice (X, Y), with its reference; see `Likeness`.

    `ssim` replaces that setting of the protocol.
    """
    protocol = replace(protocol, ssim=ssim) if ssim else protocol
    return Likeness(image, reference, mask=mask, protocol=protocol).whole()


class Likeness:
    """A volume and its reference, compared once and read over all of it, each slice and each region.

    PSNR (dB), NRMSE (by the norm of the reference), NMSE (its square) and HFEN are over the voxels that count. HFEN is
    the norm of the difference after a Laplacian of Gaussian (sigma 1.5 voxels, 15 x 15, of each slice) by that of the
    reference (Ravishankar and Bresler, IEEE TMI 2011). SSIM is the mean of its map where voxels count; without a mask
    half a window is left out at the borders, as in scikit-image. Slices lie across the third axis.

    Args:
        image: (X, Y, Z), or one slice (X, Y).
        reference: likewise.
        mask: likewise; True where voxels count. None counts all.
        protocol: what else the figures depend on.

    Raises:
        ShapeError: another shape than the reference or mask, no volume or slice, an empty mask, a reference without
            the range that the protocol needs, or an axis shorter than SSIM's window.
        ConfigError: a protocol with a mask, and none is given.
    """

    def __init__(
        self, image: Array, reference: Array, *, mask: Mask | None = None, protocol: Protocol = INVDIFF
    ) -> None:
        _check(image, reference, mask, protocol)
        self.protocol = replace(protocol, mask=mask is not None)
        self.mask = None if mask is None else np.atleast_3d(mask)
        self.x, self.reference = (np.ascontiguousarray(np.atleast_3d(v), np.float64) for v in (image, reference))
        self.ranges = _ranges(self.reference, protocol)
        self.similarity = ssim_map(self.x, self.reference, self.ranges, protocol)
        self.detail, self.detail_error = fine_detail(self.reference), fine_detail(self.x - self.reference)

    def whole(self) -> Row:
        """The row of the volume: psnr, ssim, nrmse, nmse, hfen, and the protocol by which they were measured."""
        return self._row(WHOLE, self.mask)

    def slices(self) -> list[Row]:
        """A row for each slice with voxels that count, its index as `slice`; of a 3-D SSIM what lies in the slice."""
        counted = [k for k in range(self.x.shape[2]) if self.mask is None or self.mask[..., k].any()]
        boxes = [(slice(None), slice(None), slice(k, k + 1)) for k in counted]
        return [
            {"slice": k} | self._row(box, None if self.mask is None else self.mask[box])
            for k, box in zip(counted, boxes, strict=True)
        ]

    def regions(self, labels: NDArray[Any], names: Mapping[int, str] | None = None) -> list[Row]:
        """A row for each label but 0, in ascending order, its name, or else its number, as `region`.

        Args:
            labels: (X, Y, Z) or (X, Y), whole numbers. With a mask only what lies in it counts, and a label outside of
                it has no row.
            names: of labels.

        Raises:
            ShapeError: another shape than the reference, or labels that are no whole numbers.
        """
        labels = np.atleast_3d(labels)
        if labels.shape != self.x.shape:
            raise ShapeError(f"the labels have shape {labels.shape}, the reference {self.x.shape}; give the same grid")
        if (labels != np.round(labels)).any():
            raise ShapeError("labels are whole numbers, some of these are not; resample labels by nearest neighbour")
        labels = labels if self.mask is None else np.where(self.mask, labels, 0)
        known, names = np.unique(labels[labels != 0]), names or {}
        boxes = find_objects(np.where(labels == 0, 0, np.searchsorted(known, labels) + 1))
        return [
            {"region": names.get(label, str(label))} | self._row(box, labels[box] == label)
            for label, box in zip(known.astype(int).tolist(), boxes, strict=True)
        ]

    def _row(self, box: Box, inside: Mask | None) -> Row:
        """Of the voxels of a box, or of those inside of it."""
        x, reference, detail, detail_error = (
            v[box].ravel() if inside is None else v[box][inside]
            for v in (self.x, self.reference, self.detail, self.detail_error)
        )
        with np.errstate(divide="ignore", invalid="ignore"):  # a reference of zeros, or without detail
            nrmse = float(normalized_root_mse(reference, x))
            hfen = float(np.linalg.norm(detail_error) / np.linalg.norm(detail))
        ranges = self.ranges[box[2]]
        one = self.protocol.range_of == "volume" or len(ranges) == 1
        protocol = replace(self.protocol, mask=inside is not None)
        return {
            "psnr": _psnr(x, reference, ranges[0]) if one else self._mean_psnr(box, inside),
            "ssim": self._ssim(box, inside),
            "nrmse": nrmse,
            "nmse": nrmse**2,
            "hfen": hfen,
            "data_range": float(ranges[0]) if one else None,
            "ssim_mode": protocol.ssim,
            "window": "gaussian, sigma 1.5" if protocol.window == "gaussian" else "uniform, 7 voxels",
            "mask": protocol.mask,
            "voxels": len(x),
            "protocol": protocol.name,
            "protocol_hash": protocol.hash,
        }

    def _mean_psnr(self, box: Box, inside: Mask | None) -> float:
        """Of slices with a range each, those that have voxels that count."""
        inside = np.ones(self.x[box].shape, bool) if inside is None else inside
        x, reference, ranges = self.x[box], self.reference[box], self.ranges[box[2]]
        each = [_psnr(x[m, k], reference[m, k], ranges[k]) for k, m in enumerate(np.moveaxis(inside, 2, 0)) if m.any()]
        return float(np.mean(each))

    def _ssim(self, box: Box, inside: Mask | None) -> float:
        similarity = self.similarity[box]
        if inside is None:
            half = self.protocol.side // 2
            similarity = similarity[half:-half, half:-half]
            across = self.protocol.ssim == "3d" and box is WHOLE
            return float((similarity[..., half:-half] if across else similarity).mean())
        return float(similarity[inside].mean())


def _psnr(x: Array, reference: Array, data_range: float) -> float:
    with np.errstate(divide="ignore"):  # equal images: infinite
        return float(peak_signal_noise_ratio(reference, x, data_range=data_range))


def _ranges(reference: Array, protocol: Protocol) -> NDArray[np.float64]:
    """The data range of each slice, (Z,): all the same if it is that of the volume."""
    axes = (0, 1) if protocol.range_of == "slice" else None
    least = reference.min(axes) if protocol.data_range == "max-min" else 0.0
    ranges = np.broadcast_to(reference.max(axes) - least, reference.shape[2:])
    if (ranges <= 0).any():
        where = f"slice {int((ranges <= 0).argmax())} of the reference" if axes else "the reference"
        if protocol.data_range == "max":
            raise ShapeError(f"{where} has no value above 0: protocol {protocol.name} takes the greatest as data range")
        raise ShapeError(f"{where} is constant: PSNR and SSIM need a range of intensities")
    return ranges


def _check(image: Array, reference: Array, mask: Mask | None, protocol: Protocol) -> None:
    for name, other in (("image", image), ("mask", mask)):
        if other is not None and other.shape != reference.shape:
            raise ShapeError(f"the {name} has shape {other.shape}, the reference {reference.shape}; give the same grid")
    if reference.ndim not in (2, 3):
        raise ShapeError(f"the reference has shape {reference.shape}; give a volume (X, Y, Z) or a slice (X, Y)")
    if mask is not None and not mask.any():
        raise ShapeError("the mask is empty: nothing to compare")
    if mask is None and protocol.mask:
        raise ConfigError(f"protocol {protocol.name} counts the voxels of a mask; give one")
    sides = np.atleast_3d(reference).shape[: 3 if protocol.ssim == "3d" else 2]
    if min(sides) < protocol.side:
        raise ShapeError(
            f"SSIM's window has {protocol.side} voxels a side, the volume only {sides}; use a larger volume"
        )
