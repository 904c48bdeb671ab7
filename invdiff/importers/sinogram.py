"""CT projections, as an array and a small file that says how they were measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import numpy as np
import torch
import yaml
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor

from invdiff import config
from invdiff.acquisitions import CT
from invdiff.arrays import load_npy
from invdiff.attenuation import MU_WATER
from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.importers.files import source
from invdiff.importers.level import UNKNOWN, Level, with_level
from invdiff.importers.place import unplaced
from invdiff.measurements import Measurement
from invdiff.noise.estimate import from_image
from invdiff.noise.gaussian import GaussianNoise
from invdiff.volumes import Volume, header_bytes

Positive = Annotated[float, Gt(0)]
GEOMETRY: dict[str, Any] = {
    "kind": Literal["parallel", "fan"],
    "unit": Literal["degrees", "radians"],
    "arc": Positive,
    "angles": list[float],
    "pitch": Positive,
    "offset": float,
    "source_to_axis": Positive,
    "source_to_detector": Positive,
    "pixel": Positive,
    "size": list[Annotated[int, Ge(1)]],
    "slice": Positive,
    "data": Literal["attenuation", "counts"],
    "photons": Positive,
    "mu_water": Positive,
    "output": Literal["hounsfield", "attenuation"],
}
NEEDED = ("kind", "unit", "pitch", "pixel", "size", "data")


def measurement(path: Path, geometry: Path, *, level: Level = UNKNOWN) -> Measurement:
    """The measurement in a file of projections, (views, cells) or (slices, views, cells).

    Attenuation is what -log(I / I0) gives, without unit. Counts are turned into it by `photons`, the counts of a ray
    that meets nothing; then each ray is weighted by the root of its count, and its noise is known.

    Args:
        path: .npy, .tif or .h5 (the data set `sinogram`, or the only one).
        geometry: YAML, see docs/import.md.
        level: what the user says of the noise, in the file's numbers; else counts tell, or the finest wavelets of the
            sinogram.

    Raises:
        FileError: a file that is missing, damaged or not numbers, or not finite.
        ShapeError: another number of axes, or of views than angles.
        ConfigError: a geometry that is incomplete or contradicts itself; angles in another unit than stated.
    """
    facts = source(path, "sinogram")
    g = read_geometry(geometry)
    data = read_array(path)
    slices, views, cells = data.shape
    arc, angles = _angles(geometry, g, views)
    mm, (h, w) = float(g["pixel"]), g["size"]
    counts = g["data"] == "counts"
    acquisition = CT(
        views=views,
        arc=arc,
        geometry=g["kind"],
        detectors=cells,
        cell=g["pitch"],
        offset=g.get("offset", 0.0),
        air=0.0 if g.get("output") == "attenuation" else -1000.0,
        mu_water=g.get("mu_water", MU_WATER),
        photons=g["photons"] if counts else None,
        **({k: g[k] for k in ("source_to_axis", "source_to_detector")} if g["kind"] == "fan" else {}),
    )
    y, weights, sigma, how = _logarithms(path, data, acquisition) if counts else _attenuation(data, acquisition, mm)
    maps = angles | weights
    affine = unplaced((mm, mm, float(g.get("slice", mm))))
    header = header_bytes(Volume(torch.zeros(()).expand(1, h, w, slices), affine))
    facts |= {"simulated": False, "noise_from": how, "geometry": g}
    m = Measurement(y, acquisition, maps, GaussianNoise(sigma), (1, h, w, slices), 2, header, facts)
    if level.sigma is not None and not counts:
        level = Level(sigma=level.sigma / (acquisition.per_mm() * mm))
    m.operator()  # a geometry that does not fit is refused here, by name
    return with_level(m, level)


def read_geometry(path: Path) -> dict[str, Any]:
    """The settings of a geometry file, checked one by one; raises FileError and ConfigError."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as e:
        raise FileError(f"{path}: no such geometry file; docs/import.md shows one") from e
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise FileError(f"{path} is no YAML file: {str(e).splitlines()[0]}") from e
    if not isinstance(content, dict):
        raise FileError(f"{path} holds no settings; a geometry is a YAML mapping, docs/import.md shows one")
    if isinstance(content.get("size"), int):
        content["size"] = [content["size"]] * 2
    g = config.validate(str(path), GEOMETRY, {str(k): v for k, v in content.items()})
    wanted = [*NEEDED, *(("source_to_axis", "source_to_detector") if g.get("kind") == "fan" else ())]
    wanted += ["photons"] if g.get("data") == "counts" else []
    lacking = [k for k in wanted if k not in g]
    if lacking:
        raise ConfigError(f"{path} lacks {', '.join(lacking)}; docs/import.md shows a geometry file")
    if ("arc" in g) == ("angles" in g):
        raise ConfigError(f"{path} gives {'both' if 'arc' in g else 'neither'} of arc and angles; give one of them")
    if len(g["size"]) != 2:
        raise ConfigError(f"{path}: size {g['size']} is not that of a slice; give [rows, columns]")
    return g


def read_array(path: Path) -> NDArray[np.float64]:
    """Projections (slices, views, cells), float64."""
    readers: dict[str, Callable[[Path], Any]] = {".npy": load_npy, ".tif": _tif, ".tiff": _tif, ".h5": _h5}
    readers[".hdf5"] = _h5
    if path.suffix.lower() not in readers:
        raise FileError(f"{path}: projections are read from .npy, .tif or .h5; convert the file")
    try:
        values = np.asarray(readers[path.suffix.lower()](path))
    except FileError:
        raise
    except Exception as e:  # whatever the decoders raise
        raise FileError(f"{path} is no readable {path.suffix} file, perhaps truncated; copy or export it again") from e
    if values.dtype.kind not in "fiu":
        raise FileError(f"{path} holds {values.dtype} values; real numbers are needed")
    if values.ndim not in (2, 3) or values.size == 0:
        raise ShapeError(f"{path} has axes {values.shape}; (views, cells) or (slices, views, cells) are needed")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise FileError(f"{path} holds NaN or infinite values; nothing is repaired here, measure or export again")
    return values if values.ndim == 3 else values[None]


def _tif(path: Path) -> Any:  # noqa: ANN401
    import tifffile

    return tifffile.imread(path)


def _h5(path: Path) -> Any:  # noqa: ANN401
    with h5py.File(path, "r") as f:
        sets = [name for name, item in f.items() if isinstance(item, h5py.Dataset)]
        if "sinogram" not in sets and len(sets) != 1:
            raise FileError(f"{path} holds {', '.join(sets) or 'no data sets'}; call the projections 'sinogram'")
        return f["sinogram" if "sinogram" in sets else sets[0]][()]


def _angles(path: Path, g: dict[str, Any], views: int) -> tuple[float, dict[str, Tensor]]:
    """Degrees covered by equally spaced views from 0, or 360 and the map `angles` in radians of views of any kind."""
    unit = 1.0 if g["unit"] == "degrees" else 180 / math.pi
    if "arc" in g:
        if g["arc"] * unit > 360 * (1 + 1e-6) or (g["unit"] == "degrees" and g["arc"] < 10):
            raise _suspicious(path, "an arc of", g["arc"], g["unit"])
        return min(g["arc"] * unit, 360.0), {}
    angles = torch.tensor(g["angles"], dtype=torch.float64)
    if len(angles) != views:
        raise ShapeError(f"{path} has {len(angles)} angles, the data have {views} views; correct one of them")
    if not bool(torch.isfinite(angles).all()):
        raise ConfigError(f"{path}: angles must be finite numbers")
    span = float(angles.max() - angles.min())
    if views > 1 and (span < 10 if g["unit"] == "degrees" else span > 4 * math.pi):
        raise _suspicious(path, "angles over", span, g["unit"])
    return 360.0, {"angles": torch.deg2rad(angles * unit).remainder(2 * math.pi)}


def _suspicious(path: Path, what: str, value: float, unit: str) -> ConfigError:
    other = "radians" if unit == "degrees" else "degrees"
    return ConfigError(f"{path}: {what} {value:g} {unit} make no scan; were the angles given in {other}?")


def _attenuation(data: NDArray[np.float64], ct: CT, mm: float) -> tuple[Tensor, dict[str, Tensor], float, str]:
    """Line integrals in the units of what is stored, times pixels."""
    y = torch.from_numpy(data / (ct.per_mm() * mm)).float()[:, None]
    return y, {}, from_image(y), "finest wavelets"


def _logarithms(path: Path, data: NDArray[np.float64], ct: CT) -> tuple[Tensor, dict[str, Tensor], float, str]:
    """Counts as white logarithms, see `XRay`; a count of 0 is taken for 1/2."""
    photons, mu = float(ct.photons or 0), ct.per_mm()
    if data.min() < 0:
        raise FileError(f"{path} holds counts below 0, down to {data.min():g}; subtract no more than the dark current")
    counts = torch.from_numpy(np.maximum(data, 0.5))
    weights = (counts / photons).sqrt()
    y = (weights * torch.log(photons / counts) / mu).float()[:, None]
    return y, {"weights": weights.float()}, photons**-0.5 / mu, "counts"
