"""Finding a class by its name: the folder's __all__ first, then entry points of other packages."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from inspect import isabstract, isclass

from invdiff.config import suggest
from invdiff.errors import ConfigError

BASES = {"solvers": "Solver", "acquisitions": "Acquisition", "noise": "NoiseModel", "denoising": "Denoiser"}


def names(group: str) -> dict[str, type]:
    """The concrete classes of a group by lower-case class name: `solvers`, `acquisitions`, `noise` or `denoising`.

    Third parties add theirs as entry points of the group `invdiff.solvers`, `invdiff.acquisitions`.
    """
    folder = importlib.import_module(f"invdiff.{group}")
    base = getattr(folder, BASES[group])
    found = [getattr(folder, name) for name in folder.__all__]
    found += [point.load() for point in entry_points(group=f"invdiff.{group}")]
    classes = (c for c in found if isclass(c) and issubclass(c, base) and not isabstract(c))
    return {c.__name__.lower(): c for c in classes}


def find(group: str, name: str) -> type:
    """The class called `name` in any case.

    Raises:
        ConfigError: no such name; says the nearest.
    """
    known = names(group)
    if name.lower() not in known:
        raise ConfigError(f"no {group.removesuffix('s')} {name!r}{suggest(name, known)}")
    return known[name.lower()]
