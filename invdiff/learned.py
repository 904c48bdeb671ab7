"""What a solver needs to know of images, bound to a measurement: a prior, a bridge, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from invdiff.bridges import Bridge, Family
from invdiff.errors import CapabilityError
from invdiff.measurements import Measurement
from invdiff.priors.base import Prior
from invdiff.priors.checkpoints import Card, find, network_bridge, network_prior, read_card, units
from invdiff.priors.network import pick_dtype
from invdiff.priors.scaling import Units
from invdiff.solvers.base import Solver


@dataclass(frozen=True)
class Learned:
    """What was found.

    Attributes:
        model: a prior, a bridge, or None for classical solvers.
        units: of its numbers.
        facts: name, file as it was named, checksum, precision; None without a model.
        warnings: what to say of a scan that is unlike those it was trained for.
    """

    model: Prior | Bridge | None = None
    units: Units = field(default_factory=Units)
    facts: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)

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
) -> Learned:
    """The prior or bridge called `name`, or by default the acquisition's own, if the solver's header asks for one.

    Raises:
        PriorError: no such file; a prior where a bridge is asked for, or the reverse; a bridge for other scans.
        CapabilityError: a bridge is asked for, none is named, and none ships for this acquisition.
    """
    needs = solver.requirements()[2]
    if needs is type(None):
        return Learned()
    precision = pick_dtype(dtype, device)
    model: Prior | Bridge
    warnings: list[str] = []
    if needs is Bridge:
        name = name or _own_bridge(m)
        path = find(str(name))
        warnings = _refuse_others(read_card(path), m)
        model, card, checksum = network_bridge(path, m.space, dtype=precision, width=width)
    else:
        name = name or m.acquisition.prior
        model, card, checksum = network_prior(find(str(name)), m.space, dtype=precision, width=width)
    facts = {"name": card.name, "file": str(name), "sha256": checksum, "dtype": str(precision).removeprefix("torch.")}
    return Learned(model.to(device), units(card), facts, warnings)


def _own_bridge(m: Measurement) -> str:
    if m.acquisition.bridge is None:
        kind = type(m.acquisition).__name__.lower()
        raise CapabilityError(
            f"no bridge for this {kind} ships with invdiff; train one with `invdiff train bridge --acquisition {kind}` "
            "and name it with --prior, or take a prior and a solver such as diffpir"
        )
    return m.acquisition.bridge


def _refuse_others(card: Card, m: Measurement) -> list[str]:
    """PriorError for a scan of another family; what to say of its noise."""
    if card.bridge is None:
        return []  # `network_bridge` says that it is none
    family = Family(**card.bridge["family"])
    family.refuse(card.name, m.acquisition)
    return family.noise_warning(card.name, m.facts.get("noise"))
