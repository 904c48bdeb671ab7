"""The file that holds a measurement and all that is needed to undo it: y, the physics, the noise, the geometry."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import torch
from torch import Tensor

from invdiff import config, registry
from invdiff.acquisitions.base import Acquisition
from invdiff.errors import ConfigError, FileError, InvdiffError, ShapeError
from invdiff.files import refuse_existing, write_atomic
from invdiff.linalg import stacked
from invdiff.noise.base import NoiseModel
from invdiff.operators import LinearOperator, Slicewise
from invdiff.problem import InverseProblem
from invdiff.space import Space
from invdiff.volumes import Volume, from_header_bytes, from_slices, to_slices

N = TypeVar("N", int, float)
VERSION = 2


@dataclass(frozen=True)
class Measurement:
    """What was measured of a volume.

    Attributes:
        y: (P, *range), P = frames x slices, or frames where the volume was measured as a whole.
        acquisition: how each slice or volume was measured.
        maps: masks and the like, by name.
        noise: the law of the noise, in the units of y.
        shape: (C, X, Y, Z) of the unknown volume, C frames.
        axis: stored axis that counts the slices.
        header: its NIfTI header, bytes.
        facts: where it came from: seed, noise as asked, source name and checksum.
        whole: whether the slices of a volume are one problem: what `as_volumes` gives; never in a file.
    """

    y: Tensor
    acquisition: Acquisition
    maps: dict[str, Tensor]
    noise: NoiseModel
    shape: tuple[int, int, int, int]
    axis: int
    header: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    @property
    def volumetric(self) -> bool:
        """Whether an unknown is a volume: measured as a whole, or slice by slice and seen as one."""
        return self.whole or self.acquisition.volumetric

    def as_volumes(self) -> Measurement:
        """The same measurement with one problem for each frame: its volume, measured slice by slice."""
        return self if self.volumetric else replace(self, whole=True, y=self.y.unflatten(0, (self.shape[0], -1)))

    @property
    def space(self) -> Space:
        """One unknown: (1, *spatial), or (2, *spatial) for real and imaginary part."""
        return self.acquisition.domain(self._stored)

    @property
    def _stored(self) -> Space:
        return Space((1, *(self.shape[1:] if self.whole else sides(self.shape[1:], self.acquisition, self.axis))))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel sizes of the unknown volume in mm."""
        return from_header_bytes(self.header, torch.zeros(()).expand(self.shape)).spacing

    def operator(self) -> LinearOperator:
        """The physics of one slice, or of the volume."""
        spacing = self.spacing
        stored = Space((1, *sides(self.shape[1:], self.acquisition, self.axis)))
        A = self.acquisition.operator(stored, sides(spacing, self.acquisition, self.axis), self.maps)
        return Slicewise(A, self.shape[1 + self.axis], self.axis) if self.whole else A

    def problem(self) -> InverseProblem[LinearOperator, NoiseModel]:
        """The inverse problem of all slices."""
        return InverseProblem(self.operator(), self.noise, self.y)

    def volume(self, unknown: Tensor) -> Volume:
        """What is stored of the unknown (P, *space), at the place of the measured volume."""
        return self.place(self.stored(unknown))

    def stored(self, unknown: Tensor) -> Tensor:
        """What is stored of the unknown (P, *space): (P, 1, *spatial), one after the other to spare memory."""
        return stacked(map(self.acquisition.to_stored, unknown.split(1)), len(unknown))

    def place(self, images: Tensor) -> Volume:
        """Stored images (P, 1, *spatial) as the volume at the place where the measured one was."""
        images = images.float().cpu()
        data = images[:, 0] if self.volumetric else from_slices(images, self.shape, self.axis)
        return from_header_bytes(self.header, data)


def elements(data: Tensor, acquisition: Acquisition, axis: int) -> Tensor:
    """Frames (C, X, Y, Z) as the images that are measured one by one: slices (P, 1, H, W), or (C, 1, X, Y, Z)."""
    return data[:, None].contiguous() if acquisition.volumetric else to_slices(data, axis)


def problems(shape: Sequence[int], acquisition: Acquisition, axis: int) -> int:
    """How many images of a volume (C, X, Y, Z) are measured one by one."""
    return shape[0] if acquisition.volumetric else shape[0] * shape[1 + axis]


def sides(of: Sequence[N], acquisition: Acquisition, axis: int) -> tuple[N, ...]:
    """What belongs to the spatial axes of one image, of what belongs to those of the volume: sizes, voxel sizes."""
    return tuple(n for a, n in enumerate(of) if acquisition.volumetric or a != axis)


def check_count(operator: LinearOperator, images: int) -> None:
    """Raise ShapeError where given maps, masks or kernels are for another number of images than there are."""
    if operator.problems not in (None, images):
        raise ShapeError(f"the given maps are for {operator.problems} images, the volume has {images}; give as many")


def save(path: Path, m: Measurement, *, force: bool = False) -> None:
    """Write a measurement as HDF5, atomically; raises ConfigError when the file exists and `force` is off."""
    refuse_existing([path], force=force)
    attributes = {
        "format": "invdiff measurement",
        "version": VERSION,
        "acquisition": json.dumps(config.dump(m.acquisition)),
        "noise": json.dumps(config.dump(m.noise)),
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
        raise FileError(f"{path} has an acquisition or noise that is not known here: {e}") from e
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
    missing = [k for k in ("acquisition", "noise", "shape", "axis", "facts") if k not in f.attrs]
    missing += [k for k in ("y", "header") if k not in f]
    if missing:
        raise FileError(f"{path}: the field {missing[0]!r} is missing; simulate or import the measurement again")
    return Measurement(
        y=torch.from_numpy(np.atleast_1d(f["y"][()])),
        acquisition=_build("acquisitions", f),
        maps={name: torch.from_numpy(value[()]) for name, value in f.get("maps", {}).items()},
        noise=_build("noise", f),
        shape=tuple(int(n) for n in f.attrs["shape"]),  # type: ignore[arg-type]
        axis=int(f.attrs["axis"]),
        header=f["header"][()].tobytes(),
        facts=json.loads(f.attrs["facts"]),
    )


def _build(group: str, f: h5py.File) -> Any:  # noqa: ANN401 - what the file says
    settings = json.loads(f.attrs[group.removesuffix("s")])
    return config.build(registry.find(group, settings.pop("kind")), settings)


def _checked(path: Path, m: Measurement) -> Measurement:
    if not bool(torch.isfinite(torch.view_as_real(m.y) if m.y.is_complex() else m.y).all()):
        raise FileError(f"{path}: y holds NaN or infinite values; nothing is repaired here, measure again")
    if len(m.shape) != 4 or min(m.shape) < 1 or m.axis not in (0, 1, 2):
        raise FileError(f"{path} contradicts itself: shape {m.shape} is not (C, X, Y, Z), or axis {m.axis} not in it")
    count = problems(m.shape, m.acquisition, m.axis)
    if len(m.y) != count:
        images = "volumes" if m.acquisition.volumetric else "slices"
        raise FileError(f"{path} contradicts itself: y has {len(m.y)} {images}, shape {m.shape} has {count}")
    try:
        operator = m.problem().operator
    except KeyError as e:
        raise FileError(f"{path}: the map {e} is missing; simulate or import the measurement again") from e
    except InvdiffError as e:
        raise FileError(f"{path} contradicts itself: {e}") from e
    if m.y.is_complex() != operator.range.dtype.is_complex:
        raise FileError(f"{path} contradicts itself: y is {m.y.dtype}, its physics give {operator.range.dtype}")
    return m


def fingerprint(m: Measurement) -> str:
    """Checksum of all that decides about the reconstruction: y, physics, maps, noise, place."""
    digest = hashlib.sha256(m.header)
    for tensor in (m.y, *(m.maps[name] for name in sorted(m.maps))):
        digest.update(tensor.contiguous().numpy().reshape(-1).view(np.uint8).data)  # no copy
    facts = [config.dump(m.acquisition), sorted(m.maps), config.dump(m.noise), m.shape, m.axis]
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()
