"""What a family of checkpoints is, and what reading one of them finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from invdiff.errors import PriorError

State = dict[str, Tensor]


@dataclass(frozen=True)
class Context:
    """What is known beside the state dict.

    Attributes:
        arguments: arguments of the network that the user gave; they win over what the keys say.
        kind: class that the state dict was taken from, where the file held an object.
        config: contents of a config.json beside it.
        scheduler: contents of a scheduler_config.json.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    kind: str = ""
    config: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None


@dataclass(frozen=True)
class Found:
    """A network, as its state dict shows it.

    Attributes:
        architecture: name in `invdiff.networks`.
        config: arguments of its constructor.
        state: the weights under invdiff's names.
        parameterisation, schedule: what such networks predict, unless told otherwise.
        range: numbers that images come in.
        levels: noise levels, where the file tells.
        assumed: arguments that the file does not show.
        left_out: keys that are not of the network.
    """

    architecture: str
    config: dict[str, Any]
    state: State
    parameterisation: str
    schedule: str = "linear"
    range: tuple[float, float] = (-1.0, 1.0)
    levels: tuple[float, float] | None = None
    assumed: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Family:
    """One code base.

    Attributes:
        name: as in --family.
        marker: a key that all its state dicts have, behind a prefix or not.
        read: state dict without the prefix -> what it holds; raises PriorError for what invdiff cannot use, KeyError
            for a key that is missing.
    """

    name: str
    marker: str
    read: Callable[[State, Context], Found]

    def prefixes(self, state: State) -> list[str]:
        """What stands before the family's keys: once per network inside the state dict."""
        return [
            k.removesuffix(self.marker)
            for k in state
            if k.endswith(self.marker) and k[: -len(self.marker)][-1:] in ("", ".")
        ]


def unconditional(state: State, key: str) -> None:
    """Raise PriorError when the network wants a class."""
    if key in state:
        raise PriorError(
            f"the network is class-conditional (it has {key}); invdiff's priors take no class, convert an "
            "unconditional checkpoint"
        )
