"""Arrays of real numbers from the user's files. No pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import FileError


def load_npy(path: Path) -> NDArray[Any]:
    """A real array from a .npy file, of its own type; raises FileError when there is none or it holds anything else."""
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError as e:
        raise FileError(f"{path}: no such file; check the name") from e
    except (OSError, ValueError, EOFError) as e:
        raise FileError(f"{path} is no readable .npy file of numbers, perhaps truncated; save it by numpy.save") from e
    if not isinstance(values, np.ndarray):
        raise FileError(f"{path} is an archive of several arrays; save the one that is meant by numpy.save")
    if values.dtype.kind not in "fiub":
        raise FileError(f"{path} holds {values.dtype} values; real numbers are needed")
    return values
