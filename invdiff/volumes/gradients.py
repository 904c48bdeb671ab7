"""The gradient table of a diffusion series: b-values and directions, as FSL writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import ConfigError, FileError

Floats = NDArray[np.float64]
B0 = 50.0  # s/mm^2; up to here a volume counts as unweighted
APART = 0.1  # shells differ by more than a tenth


@dataclass(frozen=True, eq=False)
class Gradients:
    """One row per volume.

    Attributes:
        bvals: b-values in s/mm^2, (V,).
        bvecs: directions of unit length, (V, 3), in the frame of the file; zero where b is.

    Raises:
        ConfigError: other numbers of values and directions, values that are negative or not finite, a weighted volume
            whose direction is not of unit length.
    """

    bvals: Floats
    bvecs: Floats

    def __post_init__(self) -> None:
        v = len(self.bvals)
        if self.bvecs.shape != (v, 3):
            raise ConfigError(f"{v} b-values and {len(self.bvecs)} directions; a volume has one of each")
        if not (np.isfinite(self.bvals).all() and np.isfinite(self.bvecs).all() and (self.bvals >= 0).all()):
            raise ConfigError("some b-values or directions are negative or not finite; check the files")
        lengths = np.linalg.norm(self.bvecs, axis=1)
        wrong = np.flatnonzero(~self.b0 & (abs(lengths - 1) > 0.02))
        if len(wrong):
            k = wrong[0]
            raise ConfigError(
                f"{len(wrong)} directions are not of unit length, the first is {lengths[k]:.3g} long, of volume {k} "
                f"with b = {self.bvals[k]:g}; divide by the length, and where it stood for the b-value scale that"
            )

    def __len__(self) -> int:
        return len(self.bvals)

    @property
    def b0(self) -> NDArray[np.bool_]:
        """Volumes without weighting, (V,): b of at most 50 s/mm^2."""
        return self.bvals <= B0

    def shells(self) -> dict[int, NDArray[np.intp]]:
        """Weighted volumes by their mean b-value, in rising order; shells differ by more than a tenth."""
        weighted = np.flatnonzero(~self.b0)
        order = weighted[np.argsort(self.bvals[weighted], kind="stable")]
        b = self.bvals[order]
        groups = np.split(order, 1 + np.flatnonzero(b[1:] > (1 + APART) * b[:-1]))
        return {round(float(self.bvals[g].mean())): np.sort(g) for g in groups if len(g)}

    def rows(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Gradients:
        """Of some volumes."""
        return Gradients(self.bvals[index], self.bvecs[index])


def load_gradients(bval: Path | str, bvec: Path | str) -> Gradients:
    """Read two text files: b-values in s/mm^2, and directions as three rows or three columns.

    Raises:
        FileError: missing, or no table of numbers.
        ConfigError: as `Gradients`.
    """
    b, v = _table(Path(bval)), _table(Path(bvec))
    if 3 not in v.shape:
        raise FileError(f"{bvec}: directions are three rows or three columns, found {v.shape[0]} x {v.shape[1]}")
    columns = v.T if v.shape[0] == 3 and v.shape != (3, 3) else v
    if v.shape == (3, 3):
        columns = v.T  # FSL's own layout
    try:
        return Gradients(b.ravel(), columns)
    except ConfigError as e:
        raise ConfigError(f"{bval}, {bvec}: {e}") from e


def _table(path: Path) -> Floats:
    try:
        return np.atleast_2d(
            np.array([[float(x) for x in line.split()] for line in path.read_text().splitlines() if line.strip()])
        )
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}; check the name") from e
    except ValueError as e:
        raise FileError(f"{path} is no table of numbers: {e}") from e
