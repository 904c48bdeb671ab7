"""The one door between dataclasses, YAML and flags. Settings are checked by pydantic; the maths never imports it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

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
        value = None if isinstance(value, str) and value.lower() in ("none", "null") else value
        try:
            out[name] = TypeAdapter(fields[name]).validate_python(value)
        except ValidationError as e:
            raise ConfigError(f"{owner}.{name}: {e.errors()[0]['msg']}, got {value}") from e
    return out


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'steps'?`, or the list of what exists when nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(known)}" if known else "; it has none"
