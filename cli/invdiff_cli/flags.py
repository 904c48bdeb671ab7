"""Flags made from the catalogue: one definition for Python, YAML and the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_type_hints

import typer

from invdiff import catalogue
from invdiff.errors import ConfigError


def command(name: str, run: Callable[..., None]) -> Callable[..., None]:
    """A Typer command: the parameters of `run(settings, ...)`, then one flag per setting of an acquisition."""
    entry = catalogue.find("acquisitions", name)
    settings = [s["name"] for s in entry["settings"]]

    def wrapped(**given: Any) -> None:  # noqa: ANN401 - flags of any type
        chosen = catalogue.check("acquisitions", name, {s: given.pop(s) for s in settings})
        run({"kind": name, **chosen}, **given)

    hints = get_type_hints(run, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(run).parameters.values()][1:]
    flags = [inspect.Parameter(s["name"], inspect.Parameter.KEYWORD_ONLY, default=s["default"], annotation=_option(s))
             for s in entry["settings"]]  # fmt: skip
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapped.__signature__ = inspect.Signature(own + flags)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in own + flags}
    wrapped.__doc__ = entry["summary"]
    return wrapped


def assignments(pairs: list[str], flag: str = "--set KEY=VALUE") -> dict[str, str]:
    """`KEY=VALUE` strings as a mapping; raises ConfigError for one without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"{flag.replace(' ', ' takes ')}, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def _option(setting: dict[str, Any]) -> Any:  # noqa: ANN401 - an annotation
    kind: Any = Literal[tuple(setting["choices"])] if "choices" in setting else catalogue.TYPES[setting["type"]]
    return Annotated[kind, typer.Option("--" + setting["name"].replace("_", "-"), help=setting["doc"])]
