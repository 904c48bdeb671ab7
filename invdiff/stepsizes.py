"""Noise ladders that were searched for, kept as files: fewer levels at the same distance from many."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from invdiff.errors import ConfigError


def load_ladder(path: str | Path, steps: int) -> Tensor:
    """The ladder of `steps` levels in a file of `stepsizes.save`, (steps + 1,) float64.

    Raises:
        ConfigError: no such file, not a ladder, or one of another number of levels.
    """
    try:
        sigmas = torch.tensor(json.loads(Path(path).read_text())["sigmas"], dtype=torch.float64)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{path} is not a ladder: {e}; write one with invdiff tune --ladder") from e
    if sigmas.ndim != 1 or sigmas[-1] != 0 or bool((sigmas.diff() >= 0).any()):
        raise ConfigError(f"{path}: a ladder descends and ends in 0")
    if len(sigmas) != steps + 1:
        raise ConfigError(f"{path} holds {len(sigmas) - 1} levels, the solver takes {steps}; --steps {len(sigmas) - 1}")
    return sigmas
