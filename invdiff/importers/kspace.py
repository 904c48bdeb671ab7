"""Cartesian k-space as scanners store it, brought to the order of the operators.

Files keep DC in the middle, of images whose middle is the isocentre. Here both begin at index 0: samples are moved
once, and the image's shift becomes a phase on them (`to_corner`), so that nothing shifts at run time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.importers.place import Place
from invdiff.noise.estimate import covariance, whitener

READOUT = 3  # axis of KSpace.samples


@dataclass(frozen=True, eq=False)
class KSpace:
    """What a Cartesian scan left.

    Attributes:
        samples: (frames, slices, coils, readout, phase, partition) complex64, DC in the middle, zero where nothing was
            measured. One of slices and partitions is 1: a stack of slices, or a volume encoded along three axes.
        measured: (frames, slices, phase, partition) bool, the readouts that were measured.
        fov: of these samples in mm, along readout, phase and slice (the distance of slices; of partitions all).
        oversampling: of the readout.
        place: where the image lies, or None.
        noise: (n, coils) of a noise scan, as strong as the noise on `samples`, or None.
        facts: for the record.

    Raises:
        ShapeError: another number of axes, slices as well as partitions.
        FileError: samples that are not finite, or nothing measured.
    """

    samples: Tensor
    measured: Tensor
    fov: tuple[float, float, float]
    oversampling: float = 1.0
    place: Place | None = None
    noise: Tensor | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        s, file = tuple(self.samples.shape), self.facts.get("source", "the scan")
        if len(s) != 6 or min(s) < 1 or tuple(self.measured.shape) != (*s[:2], *s[4:]):
            raise ShapeError(f"{file}: k-space {s} with readouts {tuple(self.measured.shape)}; 6 and 4 axes are needed")
        if s[1] > 1 and s[5] > 1:
            raise ShapeError(
                f"{file}: {s[1]} slabs of {s[5]} partitions; stacks of slices or one slab are read, split it"
            )
        for what, values in (("k-space", self.samples), ("the noise scan", self.noise)):
            if values is not None and not bool(torch.isfinite(torch.view_as_real(values)).all()):
                raise FileError(
                    f"{file}: {what} holds NaN or infinite values; nothing is repaired here, export it again"
                )
        if not bool(self.measured.any()) or not bool(self.samples.any()):
            raise FileError(f"{file}: k-space is zero everywhere, nothing was measured; check the file")
        if not all(math.isfinite(mm) and mm > 0 for mm in self.fov):
            raise FileError(
                f"{file}: the field of view {self.fov} mm is not positive; correct the header or give --voxel"
            )


def to_corner(k: Tensor) -> Tensor:
    """Samples (..., H, W) with DC in the middle, of an image about its middle -> torch.fft.fft2 of the stored image.

    Exact for odd sizes too: DC moves to index 0, the image's shift by n // 2 voxels becomes exp(-2 pi i f (n // 2)).
    """
    k = torch.fft.ifftshift(k, dim=(-2, -1))
    for axis in (-2, -1):
        n = k.shape[axis]
        turns = (torch.arange(n) * (n // 2) % n).double() / n
        phase = torch.polar(torch.ones_like(turns), -2 * math.pi * turns).to(k)
        k = k * (phase[:, None] if axis == -2 else phase)
    return k


def to_image(k: Tensor, axis: int) -> Tensor:
    """Along one axis from k-space to the image, both about their middle, orthonormal: noise keeps its level."""
    return torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(k, dim=axis), dim=axis, norm="ortho"), dim=axis)


def to_kspace(x: Tensor, axis: int) -> Tensor:
    """The inverse of `to_image`."""
    return torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(x, dim=axis), dim=axis, norm="ortho"), dim=axis)


def whitened(k: KSpace) -> tuple[KSpace, float | None]:
    """Coils with white noise of equal strength, and that strength; as they are, and None, without a noise scan."""
    if k.noise is None:
        return k, None
    W, sigma = whitener(covariance(k.noise))
    samples = torch.einsum("dc,fscrpq->fsdrpq", W.to(k.samples), k.samples)
    return replace(k, samples=samples, noise=None), sigma


def columns(k: KSpace) -> Tensor:
    """Readout samples that were measured, (readout,) bool; an asymmetric echo leaves out the first or last ones."""
    used = k.samples.abs().sum((0, 1, 2, 4, 5)).nonzero()[:, 0]
    inside = torch.zeros(k.samples.shape[READOUT], dtype=torch.bool)
    inside[int(used[0]) : int(used[-1]) + 1] = True
    return inside


def without_oversampling(k: KSpace) -> KSpace:
    """The middle of the image along the readout, exactly; as it is where the echo is asymmetric.

    A readout that was measured in part has no exact image; then the larger field of view is reconstructed.
    """
    n = k.samples.shape[READOUT]
    kept = round(n / k.oversampling)
    if kept == n or not bool(columns(k).all()):
        return k
    first = n // 2 - kept // 2
    image = to_image(k.samples, READOUT).narrow(READOUT, first, kept)
    fov = (k.fov[0] * kept / n, *k.fov[1:])
    return replace(k, samples=to_kspace(image, READOUT), fov=fov, oversampling=1.0)


def as_slices(k: KSpace) -> tuple[Tensor, Tensor, int]:
    """Two-dimensional problems: samples (P, coils, H, W), what of them was measured (H, W), and the stored slice axis.

    The volume has axes phase, readout, slice. A volume encoded along three axes is taken apart along its readout, which
    is exact since all of it was measured: H and W are then the two phase-encoded axes.

    Raises:
        ShapeError: slices or frames that were sampled differently.
        ConfigError: an asymmetric echo in a volume encoded along three axes.
    """
    inside, readouts = columns(k), _shared(k.measured)
    if k.samples.shape[5] == 1:
        samples = k.samples[..., 0].transpose(3, 4)
        return samples.flatten(0, 1), readouts & inside, 2
    if not bool(inside.all()):
        raise ConfigError(
            f"{int(inside.sum())} of {len(inside)} readout samples of a 3-D scan were measured (asymmetric echo); only "
            "full readouts are read in 3-D, complete them first"
        )
    samples = to_image(k.samples, READOUT)[:, 0].movedim(2, 1)  # frames, readout, coils, phase, partition
    return samples.flatten(0, 1), readouts, 1


def _shared(measured: Tensor) -> Tensor:
    """The readouts (phase, partition) of all frames and slices, which must be the same."""
    frames, slices = measured.shape[:2]
    first = measured[0, 0]
    other = (measured != first).flatten(2).any(2).nonzero().tolist()
    if other:
        f, s = other[0]
        counts = f"{int(measured[f, s].sum())} lines against {int(first.sum())} of the first"
        raise ShapeError(
            f"slice {s} of frame {f} was sampled differently ({counts}; {frames} frames, {slices} slices); all must "
            "share their lines, import them one by one"
        )
    return first
