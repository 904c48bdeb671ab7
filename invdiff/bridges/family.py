"""The acquisitions that one bridge serves: one kind, whose settings vary within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Generator

from invdiff import config, registry
from invdiff.acquisitions.base import Acquisition
from invdiff.errors import ConfigError, PriorError
from invdiff.space import Space


@dataclass(frozen=True)
class Family:
    """Settings of an acquisition as they are written: `4`, a range `4..8`, or choices `random,equispaced`.

    Args:
        kind: name of the acquisition.
        settings: those that are not the default.
        noise: fraction of the acquisition's noise reference, a number or a range; 1% is 0.01.

    Raises:
        ConfigError: unknown kind or setting, an end out of bounds, a range upside down, a volume measured as a whole.
    """

    kind: str
    settings: dict[str, str] = field(default_factory=dict)
    noise: str = "0.01"

    def __post_init__(self) -> None:
        if self._corner(0).volumetric or self._corner(-1).volumetric:
            raise ConfigError(f"a bridge works on slices, {self.kind} with these settings measures volumes as a whole")
        low, high = self._levels
        bounds = [self._numbers(name) for name in self.settings if ".." in self.settings[name]]
        if any(a > b for a, b in [*bounds, (low, high)]):
            raise ConfigError("a range is written from its lower to its upper end, such as 4..8")

    def draw(self, g: Generator) -> tuple[Acquisition, float]:
        """An acquisition and a noise level: uniform within ranges and among choices."""
        drawn = {name: self._draw(name, text, g) for name, text in self.settings.items()}
        low, high = self._levels
        return self.build(drawn), _uniform(low, high, g)

    @property
    def channels(self) -> int:
        """Of the images: 2 for real and imaginary part."""
        return self._corner(0).domain(Space((1, 8, 8))).shape[0]

    def build(self, settings: dict[str, Any]) -> Acquisition:
        """The acquisition with these settings, all others at their defaults."""
        return config.build(registry.find("acquisitions", self.kind), settings)

    def refuse(self, name: str, acquisition: Acquisition) -> None:
        """Raise PriorError where the acquisition is not of this family.

        Args:
            name: of the bridge, for the message.
            acquisition: what a scan was measured by.
        """
        trained = f"the bridge {name} was trained for {self}"
        kind = type(acquisition).__name__.lower()
        help_ = "train one for this scan, or take a prior and a solver such as diffpir"
        if kind != self.kind:
            raise PriorError(f"{trained}; this scan was measured by {kind}: {help_}")
        if outside := list(self._outside(acquisition)):
            raise PriorError(f"{trained}; this scan has {', '.join(outside)}: {help_}")

    def warnings(self, name: str, acquisition: Acquisition, level: float | None) -> list[str]:
        """What to say of a scan that is let in, and still is unlike those that the bridge called `name` has seen.

        Args:
            name: of the bridge.
            acquisition: of the scan; settings that training left at their defaults are compared with these.
            level: of its noise, a fraction as `noise` is; None where nobody knows.
        """
        own = self._corner(0)
        left = {f.name for f in fields(acquisition)} - set(self.settings) - acquisition.of_the_unknown
        out = [
            f"the bridge {name} was trained with {k} = {getattr(own, k)}, this scan has {getattr(acquisition, k)}: "
            "train one for it"
            for k in sorted(left)
            if getattr(own, k) != getattr(acquisition, k)
        ]
        low, high = self._levels
        if level is not None and not low <= level <= high:
            out.append(
                f"the bridge {name} was trained for noise {self.noise}, this scan has {level:g}: train one for it"
            )
        return out

    def __str__(self) -> str:
        """Kind and settings, `mri acceleration=4..8`."""
        return " ".join([self.kind, *(f"{name}={text}" for name, text in self.settings.items())])

    def _outside(self, acquisition: Acquisition) -> Iterator[str]:
        """`name = value` of settings that vary and lie outside what was seen."""
        for name, text in self.settings.items():
            value = getattr(acquisition, name)
            if ".." in text:
                low, high = self._numbers(name)
                known = low <= value <= high
            else:
                known = str(value) in [str(self._checked(name, choice)) for choice in ends(text)]
            if not known and value != "given":
                yield f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"

    def _corner(self, end: int) -> Acquisition:
        """All settings at their first, or last, value."""
        return self.build({name: ends(text)[end] for name, text in self.settings.items()})

    @property
    def _levels(self) -> tuple[float, float]:
        return config.parse_noise(ends(self.noise)[0]), config.parse_noise(ends(self.noise)[-1])

    def _numbers(self, name: str) -> tuple[float, float]:
        low, high = (self._checked(name, end) for end in ends(self.settings[name]))
        return low, high

    def _draw(self, name: str, text: str, g: Generator) -> Any:  # noqa: ANN401 - a setting of any type
        if ".." not in text:
            choices = ends(text)
            return choices[int(torch.randint(len(choices), (), generator=g))]
        low, high = self._numbers(name)
        if isinstance(low, int) and isinstance(high, int):
            return int(torch.randint(low, high + 1, (), generator=g))
        return _uniform(low, high, g)

    def _checked(self, name: str, text: str) -> Any:  # noqa: ANN401 - a setting of any type
        return config.validate(self.kind, self._fields, {name: text})[name]

    @property
    def _fields(self) -> dict[str, Any]:
        return config.annotated_fields(registry.find("acquisitions", self.kind))


def ends(text: str) -> list[str]:
    """`4..8` -> both ends, `a,b,c` -> the choices, `4` -> itself."""
    return text.split("..") if ".." in text else text.split(",")


def _uniform(low: float, high: float, g: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=g))
