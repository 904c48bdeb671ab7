"""A checkpoint of another code base -> a network, its card, and a report of what was matched."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from invdiff import networks
from invdiff.config import suggest
from invdiff.errors import ConfigError, PriorError
from invdiff.files import sha256
from invdiff.networks import Network
from invdiff.priors import parameterisation as parameterisations
from invdiff.priors.checkpoints import Card
from invdiff.priors.foreign import FAMILIES, Context, Family, Found, reading
from invdiff.priors.foreign.base import State
from invdiff.priors.foreign.reading import PickleWarning as PickleWarning
from invdiff.priors.scaling import Units


@dataclass(frozen=True)
class Choices:
    """What the user knows of a prior, and the file may not show; None: as is the family's custom.

    Attributes:
        parameterisation: what the network predicts (`invdiff.priors.parameterisation`).
        schedule: noise table of its labels (`invdiff.priors.tables`).
        range: numbers that images come in; [-1, 1], or [0, 1] for an NCSN++ that centres its input.
        window: stored values, e.g. Hounsfield units, that the ends of `range` stand for.
        mean, std: moments of the images in `range`, else its middle and a quarter of it; EDM's sigma_data is std.
        name: for the card, else the file's.
        licence: of the weights.
    """

    parameterisation: str | None = None
    schedule: str | None = None
    range: tuple[float, float] | None = None
    window: tuple[float, float] | None = None
    mean: float | None = None
    std: float | None = None
    name: str = ""
    licence: str = "unknown"


@dataclass(frozen=True)
class Report:
    """What was taken from a file.

    Attributes:
        family: code base.
        place: state dict in the file; "" is the file itself.
        prefix: what stands before the network's keys there.
        others: places of other state dicts, not taken.
        matched: number of tensors; all of the network's.
        left_out: keys of the state dict that are not of the network.
        assumed: settings that the file does not show.
    """

    family: str
    place: str
    prefix: str
    others: list[str]
    matched: int
    left_out: list[str]
    assumed: dict[str, Any]


@dataclass(frozen=True)
class _Pick:
    family: Family
    place: str
    prefix: str
    state: State
    left_out: list[str]


def convert(
    source: Path,
    choices: Choices = Choices(),
    *,
    family: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    allow_pickle: bool = False,
) -> tuple[Network, Card, Report]:
    """Read a foreign checkpoint; save the result with `checkpoints.save(path, net, card, dtype=None)`.

    Args:
        source: a file, or a folder as diffusers writes it.
        choices: what the file does not show.
        family: adm, edm, ncsnpp or diffusers; told by the keys if None.
        arguments: of the network, where they are not seen in the file, or seen wrongly.
        allow_pickle: also unpickle objects, which runs code from the file; a warning says so.

    Raises:
        PriorError: unreadable file; family that cannot be told; keys or shapes that do not fit the network.
        ConfigError: unknown family or argument; an argument out of range.
    """
    if family is not None and family not in FAMILIES:
        raise ConfigError(f"no family {family!r}{suggest(family, FAMILIES)}")
    file = reading.read(source, allow_pickle=allow_pickle)
    pick = _pick(file, family)
    given = dict(arguments or {})
    found = _read(pick, Context(given, file.kinds[pick.place], file.config, file.scheduler), source)
    net = _build(found, given)
    _load(net, found, source)
    origin = f"from {source.name} ({pick.family.name}, {_where(pick)}), sha256 {sha256(file.path)}"
    card = _card(net, found, choices, source.stem, origin)
    known = set(given) | {k for k in ("parameterisation", "schedule") if getattr(choices, k) is not None}
    assumed = {k: v for k, v in found.assumed.items() if k not in known}
    others = [place or "the file itself" for place in file.states if place != pick.place]
    left_out = pick.left_out + found.left_out
    report = Report(pick.family.name, pick.place, pick.prefix, others, len(found.state), left_out, assumed)
    return net.eval(), card, report


def _pick(file: reading.Source, family: str | None) -> _Pick:
    """The first state dict, moving averages before others, that holds a network of a known family."""
    candidates = [FAMILIES[family]] if family else list(FAMILIES.values())
    for place, state in file.states.items():
        for candidate in candidates:
            prefixes = sorted(candidate.prefixes(state), key=lambda p: "ema" not in p.lower())
            if prefixes:
                prefix = prefixes[0]
                inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
                left_out = [k for k in state if not k.startswith(prefix)]
                return _Pick(candidate, place, prefix, inside, left_out)
    first = next(iter(file.states.values()))
    wanted = " or ".join(f"{c.marker} ({c.name})" for c in candidates)
    raise PriorError(f"{file.path} is of no known family: no key ends in {wanted}; it holds {_some(list(first))}")


def _where(pick: _Pick) -> str:
    place = f"state dict {pick.place!r}" if pick.place else "the file's only level"
    return place + (f", prefix {pick.prefix!r}" if pick.prefix else "")


def _read(pick: _Pick, context: Context, source: Path) -> Found:
    try:
        return pick.family.read(pick.state, context)
    except PriorError as e:
        raise PriorError(f"{source}: {e}") from e
    except (KeyError, IndexError, StopIteration, ValueError, ZeroDivisionError) as e:
        reason = f"it looks like {pick.family.name}, but what should tell the architecture is missing ({e})"
        raise PriorError(f"{source}: {reason}; it may be of another network, or cut") from e


def _build(found: Found, given: dict[str, Any]) -> Network:
    if found.architecture != "diffusersunet2d":  # whose arguments only diffusers knows
        make = next(getattr(networks, n) for n in networks.__all__ if n.lower() == found.architecture)
        known = list(inspect.signature(make).parameters)
        for key in given:
            if key not in known:
                raise ConfigError(f"{make.__name__} has no argument {key!r}{suggest(key, known)}")
    config = found.config | {k: _like(v, found.config.get(k)) for k, v in given.items()}
    try:
        return networks.build(found.architecture, config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, KeyError, AttributeError) as e:
        if isinstance(e, ConfigError):
            raise
        shown = ", ".join(f"{k}={v}" for k, v in config.items())
        raise ConfigError(f"no network with {shown}: {e}; correct it with --set KEY=VALUE") from e


def _like(value: Any, custom: Any) -> Any:  # noqa: ANN401 - arguments of any kind
    """A single number where there can be several, or none, as a tuple."""
    if isinstance(custom, tuple) and not isinstance(value, (list, tuple)):
        return () if value is None else (value,)
    return value


def _load(net: Network, found: Found, source: Path) -> None:
    """Strictly: every key matched, every shape the same."""
    want = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    got = {k: tuple(v.shape) for k, v in found.state.items()}
    shapes = [f"{k}: {got[k]}, the network has {want[k]}" for k in want if k in got and got[k] != want[k]]
    troubles = {
        "missing": [k for k in want if k not in got],
        "unexpected": [k for k in got if k not in want],
        "of another shape": shapes,
    }
    lines = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in troubles.items() if keys]
    if lines:
        raise PriorError(
            f"{source} does not fit the {found.architecture} that its keys show; {'; '.join(lines)}; "
            "correct the architecture with --set KEY=VALUE, or it is of another network"
        )
    broken = [k for k, v in found.state.items() if not bool(v.isfinite().all())]
    if broken:
        raise PriorError(
            f"{source} holds NaN or infinite weights in {_some(broken)}; take another checkpoint of the run"
        )
    net.load_state_dict(found.state)


def _card(net: Network, found: Found, choices: Choices, stem: str, origin: str) -> Card:
    kind, schedule = choices.parameterisation or found.parameterisation, choices.schedule or found.schedule
    own = found.levels if kind == found.parameterisation else None
    sigma_min, sigma_max = own or parameterisations.levels(kind, schedule)
    low, high = choices.range or found.range
    mean = (low + high) / 2 if choices.mean is None else choices.mean
    std = (high - low) / 4 if choices.std is None else choices.std
    if not (low < high and std > 0 and all(map(math.isfinite, (low, high, mean, std)))):
        raise ConfigError(f"range {low:g} to {high:g} must ascend and std {std:g} be > 0; correct --range or --std")
    if choices.window is not None and not choices.window[0] < choices.window[1]:
        raise ConfigError("window {:g} to {:g} must ascend; give the lower value first".format(*choices.window))
    return Card(
        name=choices.name or stem,
        architecture=found.architecture,
        config=net.config,
        mean=mean,
        std=std,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        units=asdict(Units(choices.window, (low, high))),
        parameterisation=kind,
        schedule=schedule,
        licence=choices.licence,
        note=f"Research use only. Converted {origin}.",
    )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:10]) + (f", ... ({len(keys) - 10} more)" if len(keys) > 10 else "")
