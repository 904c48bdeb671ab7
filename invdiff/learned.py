"""What a solver needs to know of images, bound to a measurement: a prior, a bridge, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from invdiff.bridges import Bridge, Family
from invdiff.errors import CapabilityError, ConfigError
from invdiff.measurements import Measurement
from invdiff.operators import Composed
from invdiff.priors import PerpendicularPrior, Prior, SlicewisePrior
from invdiff.priors.checkpoints import Card, find, network_bridge, network_prior, read_card, units
from invdiff.priors.network import pick_dtype
from invdiff.priors.scaling import Units
from invdiff.regrid import Choice, Grid, choose, lost, near, scan_grid, space_on
from invdiff.solvers.base import Solver
from invdiff.space import Space

SLICES = 8  # of a volume in one network call
FEWEST = 16  # voxels of a side, as in training


@dataclass(frozen=True)
class Planes:
    """How a prior of slices is made one of volumes.

    Attributes:
        axes: stored axes that count the slices, the primary plane first; several: perpendicular priors that take turns
            (`PerpendicularPrior`). Empty: the measurement's own.
        ratio: K, every K-th noise level is an auxiliary plane's.
        shared: share of the noise, as variance, that all slices of the primary plane have in common.
    """

    axes: tuple[int, ...] = ()
    ratio: float = 2.0
    shared: float = 0.0

    def __post_init__(self) -> None:
        if len(set(self.axes)) != len(self.axes) or not set(self.axes) <= {0, 1, 2}:
            raise ConfigError(f"planes are stored axes, each once, of 0, 1 and 2, got {self.axes}")
        if not 0 <= self.shared <= 1:
            raise ConfigError(f"slices share between 0 and 1 of their noise, got {self.shared:g}")


OWN = Planes()


@dataclass(frozen=True)
class Learned:
    """What was found.

    Attributes:
        model: a prior, a bridge, or None for classical solvers.
        units: of its numbers.
        facts: name, file as it was named, checksum, precision; None without a model.
        warnings: what to say of a scan that is unlike those it was trained for.
        grid: the one that the prior is bound to, where that is not the scan's.
    """

    model: Prior | Bridge | None = None
    units: Units = field(default_factory=Units)
    facts: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    grid: Grid | None = None

    @property
    def sha256(self) -> str | None:
        """Checksum of the file."""
        return self.facts["sha256"] if self.facts else None


def learned(
    solver: Solver[Any, Any, Any],
    m: Measurement,
    name: str | Path | None,
    *,
    dtype: str,
    device: torch.device,
    width: int,
    planes: Planes = OWN,
    grid: Choice = "scan",
) -> Learned:
    """The prior or bridge called `name`, or by default the acquisition's own, if the solver's header asks for one.

    Raises:
        ConfigError: the grid of a prior is asked for where there is none.
        PriorError: no such file; a prior where a bridge is asked for, or the reverse; a bridge for other scans.
        CapabilityError: a bridge is asked for, none is named, and none ships for this acquisition.
    """
    needs = solver.requirements()[2]
    if grid == "prior" and needs in (type(None), Bridge):
        _refuse_grid(solver, bridge=needs is Bridge)
    if needs is type(None):
        return Learned()
    precision = pick_dtype(dtype, device)
    model: Prior | Bridge
    warnings: list[str] = []
    scan = place = scan_grid(m)
    if needs is Bridge:
        name = name or _own_bridge(m)
        path = find(str(name))
        warnings = _refuse_others(read_card(path), m)
        model, card, checksum = network_bridge(path, m.space, dtype=precision, width=width)
    else:
        name = name or m.acquisition.prior
        path, axes = find(str(name)), planes.axes or (m.axis,)
        place = _grid(grid, read_card(path), scan, axes, allowed=m.volumetric and _takes_products(solver))
        model, card, checksum = _prior(path, m, space_on(m, place), precision, width, planes)
        warnings = lost(scan, place) + unseen(card, place.spacing, place.sizes, axes)
    facts = {"name": card.name, "file": str(name), "sha256": checksum, "dtype": str(precision).removeprefix("torch.")}
    return Learned(model.to(device), units(card), facts, warnings, None if place == scan else place)


def _prior(
    path: Path, m: Measurement, space: Space, precision: torch.dtype, width: int, planes: Planes
) -> tuple[Prior, Card, str]:
    """Of slices, or made of those of the planes where the unknown is a volume."""
    if not m.volumetric:
        return network_prior(path, space, dtype=precision, width=width)
    axes = planes.axes or (m.axis,)
    first, card, checksum = network_prior(path, across(space, axes[0]), dtype=precision, width=SLICES)
    one, *others = (SlicewisePrior(first.on(across(space, axis)), space, axis) for axis in axes)
    return (PerpendicularPrior(one, others, planes.ratio) if others else one), card, checksum


def _grid(choice: Choice, card: Card, scan: Grid, axes: Sequence[int], *, allowed: bool) -> Grid:
    """The grid that the prior of that card is bound to."""
    if choice == "prior" and not card.spacing:
        raise ConfigError(
            f"the prior {card.name} does not say which voxels it was trained on, so that it has no grid of its own; "
            "leave --grid prior, or take another prior"
        )
    return choose(choice, scan, card.spacing, axes, allowed=allowed)


def _takes_products(solver: Solver[Any, Any, Any]) -> bool:
    """Whether A R will do for a solver, which has no singular value decomposition."""
    return issubclass(Composed, solver.requirements()[0])


def _refuse_grid(solver: Solver[Any, Any, Any], *, bridge: bool) -> None:
    name = type(solver).__name__
    why = "begins with the degraded image on the scan's own voxels" if bridge else "has no prior"
    raise ConfigError(f"{name} {why}, so that it has no other grid; leave --grid prior, or take another solver")


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


def across(space: Space, axis: int) -> Space:
    """Of the slices across an axis of volumes (C, X, Y, Z)."""
    return Space(tuple(n for i, n in enumerate(space.shape) if i != 1 + axis), space.dtype)


def _own_bridge(m: Measurement) -> str:
    if m.acquisition.bridge is None:
        kind = type(m.acquisition).__name__.lower()
        raise CapabilityError(
            f"no bridge for this {kind} ships with invdiff; train one with `invdiff train bridge --acquisition {kind}` "
            "and name it with --prior, or take a prior and a solver such as diffpir"
        )
    return m.acquisition.bridge


def _refuse_others(card: Card, m: Measurement) -> list[str]:
    """PriorError for a scan of another family; what to say of one that is let in."""
    if card.bridge is None:
        return []  # `network_bridge` says that it is none
    family = Family(**card.bridge["family"])
    family.refuse(card.name, m.acquisition)
    return family.warnings(card.name, m.acquisition, m.facts.get("noise"))
