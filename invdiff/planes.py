"""How a prior of slices is made one of volumes: planes, windows, and what it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from invdiff.errors import ConfigError, PriorError
from invdiff.measurements import Measurement
from invdiff.priors import PerpendicularPrior, Prior, SlicewisePrior, TiledPrior
from invdiff.priors.checkpoints import Card, network_prior, units
from invdiff.priors.network import NetworkPrior
from invdiff.regrid import near
from invdiff.space import Space

SLICES = 8  # in one network call at most, unless told
PIXELS = 2**18  # in one network call: with more, what lies between its layers leaves the cache (docs/volumes.md)
FEWEST = 16  # voxels of a side, as in training


@dataclass(frozen=True)
class Planes:
    """How a prior of slices is made one of volumes.

    Attributes:
        axes: stored axes that count the slices, the primary plane first; several: perpendicular priors that take turns
            (`PerpendicularPrior`). Empty: the measurement's own.
        ratio: K, every K-th noise level is an auxiliary plane's.
        shared: share of the noise, as variance, that all slices of the primary plane have in common.
        auxiliary: prior of the other planes, a name or a file; by default the primary's.
    """

    axes: tuple[int, ...] = ()
    ratio: float = 2.0
    shared: float = 0.0
    auxiliary: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.axes)) != len(self.axes) or not set(self.axes) <= {0, 1, 2}:
            raise ConfigError(f"planes are stored axes, each once, of 0, 1 and 2, got {self.axes}")
        if not 0 <= self.shared <= 1:
            raise ConfigError(f"slices share between 0 and 1 of their noise, got {self.shared:g}")
        if self.auxiliary and len(self.axes) < 2:
            raise ConfigError(f"an auxiliary prior, {self.auxiliary}, is for a second plane; give several, e.g. 2,0")


@dataclass(frozen=True)
class Calling:
    """How the network is called.

    Attributes:
        dtype: its precision.
        rows: slices in one call, or windows.
        window: side of the windows that it sees one by one, in voxels; None for whole slices.
    """

    dtype: torch.dtype
    rows: int = SLICES
    window: int | None = None


OWN = Planes()


def planar_prior(
    files: Sequence[Path], m: Measurement, space: Space, planes: Planes, how: Calling
) -> tuple[Prior, list[Card], list[str]]:
    """The prior of one unknown; cards and checksums of its files.

    Args:
        files: of the primary plane, and of the others where that is another.
        m: the measurement, whose unknowns are slices or volumes.
        space: of the unknown.
        planes: those of a volume.
        how: to call the network.

    Raises:
        PriorError: as `checkpoints.load`; two priors that do not go together.
    """
    axes, places = planes.axes or (m.axis,), slices_of(m, space, planes)
    found = [network_prior(f, at, dtype=how.dtype, width=how.rows) for f, at in zip(files, places, strict=False)]
    nets, cards, sums = zip(*found, strict=True)
    if len(cards) > 1:
        check_pair(*cards)
    each = [over_windows(nets[min(i, len(nets) - 1)], at, how.window) for i, at in enumerate(places)]
    if m.volumetric:
        one, *others = (SlicewisePrior(prior, space, axis) for prior, axis in zip(each, axes, strict=True))
        return (PerpendicularPrior(one, others, planes.ratio) if others else one), list(cards), list(sums)
    return each[0], list(cards), list(sums)


def slices_of(m: Measurement, space: Space, planes: Planes) -> list[Space]:
    """Those that the network sees, plane by plane, of an unknown that is a slice or a volume."""
    return [across(space, axis) for axis in planes.axes or (m.axis,)] if m.volumetric else [space]


def per_call(m: Measurement, planes: Planes = OWN) -> int:
    """Slices in one network call unless told: 8, fewer where they are large."""
    largest = max(math.prod(slices.shape[1:]) for slices in slices_of(m, m.space, planes))
    return min(SLICES, max(1, PIXELS // largest))


def across(space: Space, axis: int) -> Space:
    """Of the slices across an axis of volumes (C, X, Y, Z)."""
    return Space(tuple(n for i, n in enumerate(space.shape) if i != 1 + axis), space.dtype)


def over_windows(prior: NetworkPrior, space: Space, window: int | None) -> Prior:
    """The prior of slices of one size: as they are, or seen through windows where they are larger than one."""
    sides = tuple(min(n, window or n) for n in space.shape[1:])
    seen = prior.on(Space((space.shape[0], *sides), space.dtype))
    return TiledPrior(seen, space, overlap=min(sides) // 4) if sides != tuple(space.shape[1:]) else seen


def check_pair(a: Card, b: Card) -> None:
    """Raise PriorError for priors of two planes that no volume suits: of other scales, or of other voxels."""
    if units(a) != units(b):
        raise PriorError(
            f"priors of two planes share one scale of intensities; {a.name} has {_scale(a)}, {b.name} has {_scale(b)}: "
            "take two of the same scale"
        )
    if seen_by([a, b]) == [] and a.spacing and b.spacing:
        told = " and ".join(f"{c.name} on {c.spacing[0]:.3g} to {c.spacing[1]:.3g} mm" for c in (a, b))
        raise PriorError(f"priors of two planes see the same voxels; {told} have none in common: take two that do")


def seen_by(cards: Sequence[Card]) -> list[float]:
    """Least and greatest side of a voxel, in mm, that all of them were trained on; empty where that is none."""
    known = [c.spacing for c in cards if c.spacing]
    both = [max(low for low, _ in known), min(high for _, high in known)] if known else []
    return both if both and both[0] <= both[1] else []


def unseen(card: Card, spacing: Sequence[float], sizes: Sequence[int], axes: Sequence[int]) -> list[str]:
    """What to say of planes and pixels that a prior was not trained on.

    Args:
        card: the prior's.
        spacing, sizes: of the volume, in mm and in voxels.
        axes: those across the slices.
    """
    out = []
    for axis in axes:
        if card.planes not in ("all", str(axis)):
            out.append(f"the prior {card.name} was trained on slices across axis {card.planes}, not across axis {axis}")
        if (least := min(n for a, n in enumerate(sizes) if a != axis)) < FEWEST:
            out.append(
                f"slices across axis {axis} are {least} voxels wide, which is too few for the prior {card.name} to "
                "know anything of"
            )
        sides = [mm for a, mm in enumerate(spacing) if a != axis]
        if card.spacing and not near(sides, card.spacing):
            told = " x ".join(f"{mm:.3g}" for mm in sides)
            seen = " to ".join(f"{mm:.3g}" for mm in card.spacing)
            out.append(
                f"the prior {card.name} was trained on nearly square pixels of {seen} mm; slices across axis {axis} "
                f"have {told} mm; --grid prior gives it such as it knows"
            )
    return out


def in_windows(window: int | None) -> list[str]:
    """What to say of slices that the network does not see as a whole."""
    if window is None:
        return []
    return [
        f"the prior saw slices through overlapping windows of {window} x {window} voxels, so that they fit in memory: "
        "it does not relate what is farther apart, and the image is not that of a run without windows"
    ]


def _scale(card: Card) -> str:
    window, (low, high) = card.units["window"], card.units["range"]
    return (f"{window[0]:g} ... {window[1]:g} as " if window else "") + f"{low:g} ... {high:g}"
