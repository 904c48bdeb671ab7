"""The one door between dataclasses, YAML and flags. Settings are checked by pydantic; the maths never imports it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from invdiff.errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], settings: Mapping[str, Any]) -> T:
    """Make `cls` from settings given as Python values or as strings.

    Raises:
        ConfigError: unknown setting (with the nearest name), or a value of another type or out of range.
    """
    return cls(**validate(cls.__name__, annotated_fields(cls), settings))


def dump(obj: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """`{"kind": name, **settings}`, plain numbers and strings; `build` makes an equal object of it."""
    return {"kind": type(obj).__name__.lower(), **dataclasses.asdict(obj)}


def annotated_fields(cls: type) -> dict[str, Any]:
    """Annotated types of a dataclass's fields, by name."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def validate(owner: str, fields: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check and convert settings against annotated types; raises ConfigError as `build` does."""
    from pydantic import TypeAdapter, ValidationError

    out = {}
    for name, value in settings.items():
        if name not in fields:
            raise ConfigError(f"{owner} has no setting {name!r}{suggest(name, fields)}")
        try:
            out[name] = TypeAdapter(fields[name]).validate_python(_value(fields[name], value))
        except ValidationError as e:
            raise ConfigError(f"{owner}.{name}: {e.errors()[0]['msg']}, got {value}") from e
    return out


def parse_noise(noise: float | str) -> float:
    """0.01 from 0.01, "0.01" or "1%"; raises ConfigError when negative or not a number."""
    text = str(noise).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"noise is a fraction such as 0.01 or 1%, got {noise!r}") from None
    if not 0 <= value < float("inf"):
        raise ConfigError(f"noise must be a finite number >= 0, got {noise}")
    return value


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'steps'?`, or the list of what exists when nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(known)}" if known else "; it has none"


def _value(kind: Any, value: Any) -> Any:  # noqa: ANN401 - an annotation and what it may describe
    """A string as what it stands for where pydantic would not see it: none, and choices that are numbers."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "null"):
        return None
    kinds = [kind, *get_args(kind)]
    choices = [c for k in kinds if get_origin(k) is Literal for c in get_args(k)]
    return next((c for c in choices if str(c) == value), value)
