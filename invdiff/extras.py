"""Modules of optional packages, or how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from invdiff.errors import ConfigError


def dipy(name: str) -> Any:  # noqa: ANN401 - a module
    """A module of dipy, the extra `dmri`.

    Raises:
        ConfigError: it is not installed; says how to.
    """
    try:
        import_module("sklearn")  # dipy finds out when it is called
        return import_module(f"dipy.{name}")
    except ImportError as e:
        raise ConfigError(f"diffusion series need dipy and scikit-learn ({e}); pip install 'invdiff[dmri]'") from e
