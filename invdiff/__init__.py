"""invdiff: posterior reconstruction of medical scans. Research use only."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invdiff.metrics import evaluate
    from invdiff.problem import InverseProblem
    from invdiff.reconstruction import Reconstruction, reconstruct
    from invdiff.simulation import simulate
    from invdiff.solution import Solution, solve
    from invdiff.volumes import Volume, load, save

try:
    __version__ = version("invdiff")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

_HOMES = {
    "InverseProblem": "invdiff.problem",
    "Reconstruction": "invdiff.reconstruction",
    "Solution": "invdiff.solution",
    "Volume": "invdiff.volumes",
    "evaluate": "invdiff.metrics",
    "load": "invdiff.volumes",
    "reconstruct": "invdiff.reconstruction",
    "save": "invdiff.volumes",
    "simulate": "invdiff.simulation",
    "solve": "invdiff.solution",
}

__all__ = [
    "InverseProblem",
    "Reconstruction",
    "Solution",
    "Volume",
    "__version__",
    "evaluate",
    "load",
    "reconstruct",
    "save",
    "simulate",
    "solve",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - torch is imported when a name is first used, not before
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'invdiff' has no attribute {name!r}")
