"""Candidates for `tune`: which setting of a solver matters most, and values around its default. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from invdiff import catalogue
from invdiff.errors import ConfigError

# The setting that decides how far the data are trusted, or for how long. A solver that is not here has none.
MAIN = {
    "cg": "iterations",
    "daps": "cg_iterations",
    "ddnm": "zeta",
    "ddnmplus": "eta",
    "ddrm": "eta",
    "dds": "gamma",
    "scd": "gamma",
    "diffpir": "lam",
    "dps": "zeta_per_sqrt_m",
    "flowdps": "zeta",
    "mmps": "zeta",
    "pigdm": "zeta",
    "pnp": "lam",
    "pnpdm": "inner",
    "reddiff": "lam",
    "rsd": "lam",
    "tv": "weight",
    "wavelet": "weight",
}
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def candidates(solver: str, settings: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid's values with the other settings, checked.

    Args:
        solver: its name.
        settings: that all candidates share.
        grid: values by setting; where empty, five values of the solver's main setting: a quarter to four times what it
            is, or 0 to 1 of a share.

    Raises:
        ConfigError: an unknown setting or a value out of range; no grid for a solver without a main setting.
    """
    grid = grid or around(solver, settings)
    for key in grid:
        if key in settings:
            raise ConfigError(f"{key} is both in --grid and in --set; leave one of them")
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    checked = [catalogue.check("solvers", solver, {**settings, **c}) for c in combinations]
    return [c for i, c in enumerate(checked) if c not in checked[:i]]


def around(solver: str, settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The default grid: values of the main setting."""
    known = {s["name"]: s for s in catalogue.find("solvers", solver)["settings"]}
    main = MAIN.get(solver)
    if main is None:
        names = ", ".join(known) or "it has no settings"
        raise ConfigError(f"{solver} has no main setting; say what to try, e.g. --grid KEY=1,2,4 ({names})")
    if main in settings:
        raise ConfigError(f"{main} is what {solver} is tuned in, and --set gives it; give --grid KEY=v1,v2 instead")
    setting = known[main]
    if setting.get("ge") == 0 and setting.get("le") == 1:
        return {main: list(SHARES)}
    values = [setting["default"] * f for f in FACTORS]
    return {main: [max(1, round(v)) for v in values] if setting["type"] == "int" else values}


def parse(pairs: Mapping[str, str]) -> dict[str, list[str]]:
    """`KEY=v1,v2,v3` as a mapping from settings to their values; raises ConfigError for a setting without any."""
    grid = {key.removeprefix("solver."): [v.strip() for v in text.split(",")] for key, text in pairs.items()}
    for key, values in grid.items():
        if not all(values):
            raise ConfigError(f"--grid takes KEY=v1,v2,..., got {key}={pairs.get(key, '')}")
    return grid
