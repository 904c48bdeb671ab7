"""What a solver needs to know of images, bound to a measurement: a prior, a bridge, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from invdiff.bridges import Bridge, Family
from invdiff.errors import CapabilityError, ConfigError
from invdiff.measurements import Measurement
from invdiff.operators import Composed
from invdiff.planes import OWN, SLICES, Calling, Planes, in_windows, planar_prior, seen_by, unseen
from invdiff.priors import Prior
from invdiff.priors.checkpoints import Card, find, network_bridge, read_card, units
from invdiff.priors.network import pick_dtype
from invdiff.priors.scaling import Units
from invdiff.regrid import Choice, Grid, choose, lost, scan_grid, space_on
from invdiff.solvers.base import Solver


@dataclass(frozen=True)
class Learned:
    """What was found.

    Attributes:
        model: a prior, a bridge, or None for classical solvers.
        units: of its numbers.
        facts: name, file as it was named, checksum, precision, of an auxiliary prior, too; None without a model.
        warnings: what to say of a scan that is unlike those it was trained for.
        grid: the one that the prior is bound to, where that is not the scan's.
    """

    model: Prior | Bridge | None = None
    units: Units = field(default_factory=Units)
    facts: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    grid: Grid | None = None

    def to(self, device: torch.device) -> Learned:
        """The same on a device."""
        return self if self.model is None else replace(self, model=self.model.to(device))

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
    slices: int = SLICES,
    window: int | None = None,
) -> Learned:
    """The prior or bridge called `name`, or by default the acquisition's own, if the solver's header asks for one.

    Its network is called with `width` slices, or, where the unknown is a volume, with `slices` of it; or with as many
    windows of `window` x `window` voxels.

    Raises:
        ConfigError: the grid of a prior is asked for where there is none.
        PriorError: no such file; a prior where a bridge is asked for, or the reverse; a bridge for other scans; priors
            of two planes that do not go together.
        CapabilityError: a bridge is asked for, none is named, and none ships for this acquisition.
    """
    needs = solver.requirements()[2]
    if grid == "prior" and needs in (type(None), Bridge):
        _refuse_grid(solver, bridge=needs is Bridge)
    if needs is type(None):
        return Learned()
    precision = pick_dtype(dtype, device)
    if needs is Bridge:
        return _bridge(m, name or _own_bridge(m), precision, width).to(device)
    names = [str(name or m.acquisition.prior), *([planes.auxiliary] if planes.auxiliary else [])]
    files, axes = [find(name) for name in names], planes.axes or (m.axis,)
    scan = scan_grid(m)
    place = _grid(grid, [read_card(f) for f in files], scan, axes, allowed=m.volumetric and _takes_products(solver))
    how = Calling(precision, slices if m.volumetric else width, window)
    model, cards, sums = planar_prior(files, m, space_on(m, place), planes, how)
    facts = _facts(cards[0], names[0], sums[0], precision)
    warnings = lost(scan, place) + in_windows(window)
    for i, axis in enumerate(axes):
        warnings += unseen(cards[min(i, len(cards) - 1)], place.spacing, place.sizes, [axis])
    if len(cards) > 1:
        facts["auxiliary"] = _facts(cards[1], names[1], sums[1], precision)
    return Learned(model, units(cards[0]), facts, warnings, None if place == scan else place).to(device)


def _bridge(m: Measurement, name: str | Path, precision: torch.dtype, width: int) -> Learned:
    path = find(str(name))
    warnings = _refuse_others(read_card(path), m)
    model, card, checksum = network_bridge(path, m.space, dtype=precision, width=width)
    return Learned(model, units(card), _facts(card, name, checksum, precision), warnings)


def _facts(card: Card, name: str | Path, checksum: str, precision: torch.dtype) -> dict[str, Any]:
    dtype = str(precision).removeprefix("torch.")
    return {"name": card.name, "file": str(name), "sha256": checksum, "dtype": dtype}


def _grid(choice: Choice, cards: list[Card], scan: Grid, axes: tuple[int, ...], *, allowed: bool) -> Grid:
    """The grid that the prior of these cards is bound to."""
    seen = seen_by(cards)
    if choice == "prior" and not seen:
        raise ConfigError(
            f"the prior {cards[0].name} does not say which voxels it was trained on, so that it has no grid of its "
            "own; leave --grid prior, or take another prior"
        )
    return choose(choice, scan, seen, axes, allowed=allowed)


def _takes_products(solver: Solver[Any, Any, Any]) -> bool:
    """Whether A R will do for a solver, which has no singular value decomposition."""
    return issubclass(Composed, solver.requirements()[0])


def _refuse_grid(solver: Solver[Any, Any, Any], *, bridge: bool) -> None:
    name = type(solver).__name__
    why = "begins with the degraded image on the scan's own voxels" if bridge else "has no prior"
    raise ConfigError(f"{name} {why}, so that it has no other grid; leave --grid prior, or take another solver")


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
