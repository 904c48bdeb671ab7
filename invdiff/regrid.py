"""The voxels that an unknown lives on: the scan's, or such as its prior knows, of the same field of view.

A prior of 0.5 to 3 mm has not seen pixels of 1 x 4 mm, which slices across the first axis of a scan of 1 x 1 x 4 mm
have. The unknown then gets voxels of 1 x 1 x 1 mm, and the scan's are means of four: A becomes A R, and the image R x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.measurements import Measurement, sides
from invdiff.operators import LinearOperator, Subdivided, resampled
from invdiff.problem import InverseProblem
from invdiff.space import Space

Choice = Literal["auto", "scan", "prior"]
SQUARE = 2.0  # a pixel is nearly square below this ratio of its sides, as training takes it
BEYOND = (0.8, 1.2)  # of the least and the greatest side seen in training: still near


@dataclass(frozen=True)
class Grid:
    """Voxels along the three stored axes of a volume.

    Attributes:
        sizes: how many.
        spacing: their size in mm.
    """

    sizes: tuple[int, ...]
    spacing: tuple[float, ...]

    def of_sizes(self, sizes: Sequence[int]) -> Grid:
        """The same field of view in other numbers of voxels."""
        return Grid(tuple(sizes), tuple(n * mm / m for n, mm, m in zip(self.sizes, self.spacing, sizes, strict=True)))

    def fits(self, axes: Sequence[int], seen: Sequence[float]) -> bool:
        """Whether the slices across each of `axes` have pixels that are near to what was seen."""
        return all(near([mm for a, mm in enumerate(self.spacing) if a != axis], seen) for axis in axes)

    def __str__(self) -> str:
        told = " x ".join(f"{mm:.3g}" for mm in self.spacing)
        return f"{' x '.join(map(str, self.sizes))} voxels of {told} mm"


def near(pixel: Sequence[float], seen: Sequence[float]) -> bool:
    """Square to a factor of two, as training takes them, and within a fifth of what was seen.

    Args:
        pixel: its sides in mm.
        seen: least and greatest side in training, in mm.
    """
    low, high = _range(seen)
    return max(pixel) < SQUARE * min(pixel) and low <= min(pixel) and max(pixel) <= high


def choose(choice: Choice, scan: Grid, seen: Sequence[float], axes: Sequence[int], *, allowed: bool = True) -> Grid:
    """The grid of the unknown: the scan's wherever that is near to what the prior knows.

    Args:
        choice: scan: that of the scan; prior: one that the prior knows, even if it is coarser; auto: one that it knows,
            where voxels need only be divided for it, which loses nothing.
        scan: the scan's.
        seen: least and greatest side of a pixel in the prior's training, in mm; empty where nobody knows.
        axes: those across the slices that the prior sees.
        allowed: whether auto may choose another grid than the scan's.

    Raises:
        ConfigError: no such choice.
    """
    if choice not in get_args(Choice):
        raise ConfigError(f"the grid of the unknown is auto, scan or prior, got {choice!r}")
    if choice == "scan" or not seen or scan.fits(axes, seen) or not (allowed or choice == "prior"):
        return scan
    fine = divided(scan, seen, axes)
    if fine.fits(axes, seen):
        return fine
    return scan if choice == "auto" else fitted(scan, seen, axes)


def divided(scan: Grid, seen: Sequence[float], axes: Sequence[int]) -> Grid:
    """The voxels divided into equal parts along the axes where they are too long, down to the side of the finest.

    The parts are no smaller than that, nor larger than what was seen. Slices are never divided from each other where no
    plane shows their thickness.
    """
    high = _range(seen)[1]
    least = min(min(scan.spacing[a] for a in _shown(axes)), seen[1])
    sizes = list(scan.sizes)
    for a in _shown(axes):
        mm = scan.spacing[a]
        if mm >= SQUARE * least or mm > high:
            sizes[a] *= max(math.floor(mm / least + 0.01), math.ceil(mm / high))
    return scan.of_sizes(sizes)


def fitted(scan: Grid, seen: Sequence[float], axes: Sequence[int]) -> Grid:
    """Voxels of about one size where the scan's are far from it: of the sides seen, the nearest to the finest."""
    size = min(max(min(scan.spacing[a] for a in _shown(axes)), seen[0]), seen[1])
    sizes = list(scan.sizes)
    for a in _shown(axes):
        mm = scan.spacing[a]
        if not BEYOND[0] * size <= mm < min(SQUARE * BEYOND[0] * size, _range(seen)[1]):
            sizes[a] = max(1, round(scan.sizes[a] * mm / size))
    return scan.of_sizes(sizes)


def lost(scan: Grid, grid: Grid) -> list[str]:
    """What to say of a grid that is coarser than the scan's: a sentence, or nothing."""
    if all(m >= n for n, m in zip(scan.sizes, grid.sizes, strict=True)):
        return []
    return [
        f"the unknown lives on {grid}, the scan has {scan}: detail finer than the former is lost; --grid scan keeps it"
    ]


def scan_grid(m: Measurement) -> Grid:
    """That of the measured volume."""
    return Grid(tuple(m.shape[1:]), tuple(m.spacing))


def space_on(m: Measurement, grid: Grid) -> Space:
    """One unknown of a measurement, `Measurement.space`, on another grid."""
    spatial = grid.sizes if m.volumetric else sides(grid.sizes, m.acquisition, m.axis)
    return Space((m.space.shape[0], *spatial), m.space.dtype)


def onto(problem: InverseProblem[Any, Any], space: Space) -> InverseProblem[Any, Any]:
    """The same measurement of an unknown on other voxels of the same field of view: A R in the place of A."""
    return replace(problem, operator=behind(problem.operator, space))


def behind(A: LinearOperator, space: Space) -> LinearOperator:
    """A R, with R from `space` to the domain of A: means of parts, and the closed forms of A, where sizes allow it."""
    sizes, parts = A.domain.shape[1:], space.shape[1:]
    if all(m % n == 0 for n, m in zip(sizes, parts, strict=True)):
        return Subdivided(A, [m // n for n, m in zip(sizes, parts, strict=True)])
    return A @ resampled(space, sizes)


def home(problem: InverseProblem[Any, Any], x: Tensor) -> Tensor:
    """R x of images (P, *space), one by one, so that none depends on how many there are."""
    R = problem.operator.B
    return torch.cat([R(image[None]) for image in x])


def _range(seen: Sequence[float]) -> tuple[float, float]:
    return BEYOND[0] * seen[0], BEYOND[1] * seen[1]


def _shown(axes: Sequence[int]) -> list[int]:
    """The axes that lie in a slice across one of `axes`."""
    return sorted({a for axis in axes for a in range(3) if a != axis})
