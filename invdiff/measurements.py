"""The file that holds a measurement and all that is needed to undo it: y, the physics, the noise, the geometry."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from invdiff import config, registry
from invdiff.acquisitions.base import Acquisition
from invdiff.errors import ConfigError, FileError, InvdiffError
from invdiff.files import refuse_existing, write_atomic
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.problem import InverseProblem
from invdiff.space import Space
from invdiff.volumes import Volume, from_header_bytes, from_slices

VERSION = 1


@dataclass(frozen=True)
class Measurement:
    """Measured slices of a volume.

    Attributes:
        y: (P, *range), P = frames x slices.
        acquisition: how each slice was measured.
        maps: masks and the like, by name.
        sigma: noise standard deviation per real component, in the units of y.
        shape: (C, X, Y, Z) of the volume that was measured.
        axis: stored axis that counts the slices.
        header: its NIfTI header, bytes.
        facts: where it came from: seed, noise as asked, source name and checksum.
    """

    y: Tensor
    acquisition: Acquisition
    maps: dict[str, Tensor]
    sigma: float
    shape: tuple[int, int, int, int]
    axis: int
    header: bytes
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The unknown of one slice: (1, H, W), or (2, H, W) for real and imaginary part."""
        return self.acquisition.domain(self._slice)

    @property
    def _slice(self) -> Space:
        return Space((1, *(n for a, n in enumerate(self.shape[1:]) if a != self.axis)))

    def operator(self) -> LinearOperator:
        """The physics of one slice."""
        return self.acquisition.operator(self._slice, in_plane(self.volume(None).spacing, self.axis), self.maps)

    def problem(self) -> InverseProblem[LinearOperator, GaussianNoise]:
        """The inverse problem of all slices."""
        return InverseProblem(self.operator(), GaussianNoise(self.sigma), self.y)

    def volume(self, unknown: Tensor | None) -> Volume:
        """What is stored of the unknown (P, *space), at the place of the measured volume; zeros for None."""
        if unknown is None:
            return self.place(torch.zeros(self.shape[0] * self.shape[1 + self.axis], *self._slice.shape))
        return self.place(self.acquisition.to_stored(unknown))

    def place(self, slices: Tensor) -> Volume:
        """Slices (P, 1, H, W) as the volume at the place where the measured one was."""
        return from_header_bytes(self.header, from_slices(slices.float().cpu(), self.shape, self.axis))


def in_plane(spacing: tuple[float, float, float], axis: int) -> tuple[float, float]:
    """Voxel size in mm along the two axes of a slice."""
    first, second = (mm for a, mm in enumerate(spacing) if a != axis)
    return first, second


def save(path: Path, m: Measurement, *, force: bool = False) -> None:
    """Write a measurement as HDF5, atomically; raises ConfigError when the file exists and `force` is off."""
    refuse_existing([path], force=force)
    attributes = {
        "format": "invdiff measurement",
        "version": VERSION,
        "acquisition": json.dumps(config.dump(m.acquisition)),
        "sigma": m.sigma,
        "shape": m.shape,
        "axis": m.axis,
        "facts": json.dumps(m.facts),
    }

    def write(temporary: Path) -> None:
        # Through memory: HDF5 on a full disk prints tracebacks and may crash later, a plain write says what happened.
        content = io.BytesIO()
        with h5py.File(content, "w") as f:
            f.attrs.update(attributes)
            f["y"] = m.y.numpy()
            f["header"] = np.frombuffer(m.header, np.uint8)
            for name, value in m.maps.items():
                f[f"maps/{name}"] = value.numpy()
        temporary.write_bytes(content.getbuffer())

    write_atomic(path, write)


def load(path: Path) -> Measurement:
    """Read a measurement.

    Raises:
        FileError: missing, truncated, not a measurement, another version, a missing field, y not finite or of a
            shape that its own acquisition does not give.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such measurement file; make one with `invdiff simulate`")
    try:
        with h5py.File(path, "r") as f:
            measurement = _read(path, f)
    except FileError:
        raise
    except ConfigError as e:
        raise FileError(f"{path} has an acquisition that is not known here: {e}") from e
    except OSError as e:
        raise FileError(f"{path} is no readable HDF5 file, perhaps truncated; simulate or copy it again") from e
    except (ValueError, TypeError, AttributeError, KeyError) as e:
        reason = str(e).splitlines()[0]
        raise FileError(f"{path}: a field is damaged ({reason}); simulate or import the measurement again") from e
    return _checked(path, measurement)


def _read(path: Path, f: h5py.File) -> Measurement:
    if f.attrs.get("format") != "invdiff measurement":
        raise FileError(f"{path} is no invdiff measurement; make one with `invdiff simulate`")
    if f.attrs.get("version") != VERSION:
        found = f.attrs.get("version")
        raise FileError(f"{path} has version {found}, this invdiff reads version {VERSION}; simulate or import again")
    missing = [k for k in ("acquisition", "sigma", "shape", "axis", "facts") if k not in f.attrs]
    missing += [k for k in ("y", "header") if k not in f]
    if missing:
        raise FileError(f"{path}: the field {missing[0]!r} is missing; simulate or import the measurement again")
    settings = json.loads(f.attrs["acquisition"])
    kind = registry.find("acquisitions", settings.pop("kind"))
    return Measurement(
        y=torch.from_numpy(np.atleast_1d(f["y"][()])),
        acquisition=config.build(kind, settings),
        maps={name: torch.from_numpy(value[()]) for name, value in f.get("maps", {}).items()},
        sigma=float(f.attrs["sigma"]),
        shape=tuple(int(n) for n in f.attrs["shape"]),  # type: ignore[arg-type]
        axis=int(f.attrs["axis"]),
        header=f["header"][()].tobytes(),
        facts=json.loads(f.attrs["facts"]),
    )


def _checked(path: Path, m: Measurement) -> Measurement:
    if not bool(torch.isfinite(torch.view_as_real(m.y) if m.y.is_complex() else m.y).all()):
        raise FileError(f"{path}: y holds NaN or infinite values; nothing is repaired here, measure again")
    if len(m.shape) != 4 or min(m.shape) < 1 or m.axis not in (0, 1, 2):
        raise FileError(f"{path} contradicts itself: shape {m.shape} is not (C, X, Y, Z), or axis {m.axis} not in it")
    slices = m.shape[0] * m.shape[1 + m.axis]
    if len(m.y) != slices:
        raise FileError(f"{path} contradicts itself: y has {len(m.y)} slices, shape {m.shape} has {slices}")
    try:
        operator = m.problem().operator
    except KeyError as e:
        raise FileError(f"{path}: the map {e} is missing; simulate or import the measurement again") from e
    except InvdiffError as e:
        raise FileError(f"{path} contradicts itself: {e}") from e
    if m.y.is_complex() != operator.range.dtype.is_complex:
        raise FileError(f"{path} contradicts itself: y is {m.y.dtype}, its physics give {operator.range.dtype}")
    return m
