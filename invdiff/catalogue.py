"""What there is, with every setting: a JSON file generated from the dataclasses, read without importing torch.

`python -m invdiff.catalogue` (or `make catalogue`) writes it; a test holds it to the code.
"""

from __future__ import annotations

import dataclasses
import json
import types
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le, Lt

from invdiff.config import annotated_fields, suggest, validate
from invdiff.errors import ConfigError

Entry = dict[str, Any]
BOUNDS = {"ge": Ge, "gt": Gt, "le": Le, "lt": Lt}
TYPES = {"int": int, "float": float, "bool": bool, "str": str}


@cache
def load() -> dict[str, dict[str, Entry]]:
    """Group -> name -> entry: `solvers`, `acquisitions`, `noise`, `denoising`, `steering`, `starts`, `priors`."""
    return json.loads((files("invdiff") / "catalogue.json").read_text())


def find(group: str, name: str) -> Entry:
    """One entry; raises ConfigError with the nearest name when there is none.

    Solvers and acquisitions of other packages are not in the file; they are looked up in their entry points.
    """
    known = load()[group]
    if name in known:
        return known[name]
    from importlib.metadata import entry_points

    if entry_points(group=f"invdiff.{group}"):
        from invdiff import registry

        return describe(registry.find(group, name))
    raise ConfigError(f"no {group.removesuffix('s')} {name!r}{suggest(name, known)}")


def check(group: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings converted to their types; raises ConfigError as `config.build` does, but without importing torch."""
    entry = find(group, name)
    return validate(entry["class"], {s["name"]: annotation(s) for s in entry["settings"]}, settings)


def annotation(setting: Entry) -> Any:  # noqa: ANN401 - a type
    """The annotated type that a catalogue entry was made from."""
    kind: Any = Literal[tuple(setting["choices"])] if "choices" in setting else TYPES[setting["type"]]
    bounds = tuple(BOUNDS[b](setting[b]) for b in BOUNDS if b in setting)
    for bound in bounds:
        kind = Annotated[kind, bound]
    return kind | None if setting["optional"] else kind


def generate() -> dict[str, dict[str, Entry]]:
    """The catalogue, from the classes and from the cards of the priors that ship."""
    from invdiff import library, registry
    from invdiff.files import sha256
    from invdiff.priors import checkpoints
    from invdiff.steering import Steering
    from invdiff.warm import Warm

    out: dict[str, dict[str, Entry]] = {
        group: {name: describe(cls) for name, cls in sorted(registry.names(group).items())}
        for group in ("solvers", "acquisitions", "noise", "denoising")
    }
    out["steering"] = {"steer": describe(Steering)}
    out["starts"] = {"warm": describe(Warm)}
    out["priors"] = {}
    for name in library.all_shipped():
        path = library.find(name)
        out["priors"][name] = dataclasses.asdict(checkpoints.read_card(path)) | {"sha256": sha256(path)}
    return out


def describe(cls: type) -> Entry:
    """The entry of a solver or acquisition."""
    entry: Entry = {"class": cls.__name__, "summary": (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")}
    entry["summary"] = " ".join(entry["summary"].split())
    for attribute in ("gives", "paper", "noise_reference"):
        if getattr(cls, attribute, ""):
            entry[attribute] = getattr(cls, attribute)
    if hasattr(cls, "requirements"):
        needs = zip(("operator", "noise", "prior"), cls.requirements(), strict=True)
        entry["needs"] = {part: need.__name__ for part, need in needs if need is not type(None)}
    hints = annotated_fields(cls)
    entry["settings"] = [_setting(f, hints[f.name]) for f in dataclasses.fields(cls)]
    return entry


def _setting(field: dataclasses.Field[Any], hint: Any) -> Entry:  # noqa: ANN401 - a type
    kind, *extras = get_args(hint)
    inner = [a for a in get_args(kind) if a is not type(None)] if _is_union(kind) else [kind]
    default = None if field.default is dataclasses.MISSING else field.default
    entry: Entry = {"name": field.name, "default": default, "optional": len(inner) < len(get_args(kind))}
    if get_origin(inner[0]) is Literal:
        choices = list(get_args(inner[0]))
        entry |= {"type": type(choices[0]).__name__, "choices": choices}
    else:
        entry["type"] = inner[0].__name__
    entry |= {name: getattr(e, name) for name, bound in BOUNDS.items() for e in extras if isinstance(e, bound)}
    entry["doc"] = next(e.documentation for e in extras if isinstance(e, Doc))
    return entry


def _is_union(kind: Any) -> bool:  # noqa: ANN401 - a type
    return get_origin(kind) in (Union, types.UnionType)


if __name__ == "__main__":
    text = json.dumps(generate(), indent=1) + "\n"
    Path(str(files("invdiff") / "catalogue.json")).write_text(text)
