"""From a Cartesian scan to a measurement: whitening, oversampling, coil maps, noise, place. One door for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from invdiff import coilmaps
from invdiff.acquisitions import MRI
from invdiff.errors import ConfigError
from invdiff.importers.kspace import KSpace, as_slices, to_corner, whitened, without_oversampling
from invdiff.importers.level import UNKNOWN, Level, with_level
from invdiff.importers.place import unplaced
from invdiff.measurements import Measurement
from invdiff.noise.estimate import from_edge
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators import Mask
from invdiff.space import Space
from invdiff.volumes import Volume, header_bytes

Method = Literal["espirit", "adaptive"]


def measurement(k: KSpace, *, maps: Method = "espirit", level: Level = UNKNOWN) -> Measurement:
    """The measurement of a complex image, slice by slice, from k-space.

    The file's numbers are kept: coils are whitened by a noise scan, at their mean strength, and nothing else is scaled.
    The unknown has the field of view that was encoded; axes are phase encoding, readout, slice (or partition).

    Args:
        k: the scan.
        maps: how coil maps are estimated, from the fully sampled middle of k-space.
        level: what the user says of the noise; else a noise scan tells, else the edge of k-space.

    Raises:
        ConfigError: no calibration region for coil maps, no noise level, an asymmetric echo in 3-D.
        ShapeError: slices or frames that were sampled differently.
        GeometryError: slices that are not equally spaced.
    """
    k = without_oversampling(_sorted(k))
    k, sigma = whitened(k)
    samples, measured, axis = as_slices(k)
    how = "noise scan"
    if sigma is None:
        how = "edge of k-space"
        sigma = 0.0 if level.given else from_edge(samples, measured)
    coils = samples.shape[1]
    acquisition = MRI(
        pattern="given",
        acceleration=measured.numel() / int(measured.sum()),
        coils=coils,
        coil_maps=maps if coils > 1 else "true",
    )
    inside = torch.fft.ifftshift(measured)
    found = _pattern(inside)
    samples = to_corner(samples)
    if coils > 1:
        found["coils"] = _coil_maps(samples, inside, maps)
    y = Mask(Space(tuple(samples.shape[1:]), samples.dtype), inside)(samples)
    shape, header = _grid(k)
    facts = {"simulated": False, "noise_from": how, **({"coil_maps": maps} if coils > 1 else {}), **k.facts}
    return with_level(Measurement(y, acquisition, found, GaussianNoise(sigma), shape, axis, header, facts), level)


def _sorted(k: KSpace) -> KSpace:
    """Slices in the order of their places, not of their measurement."""
    if k.place is None or k.samples.shape[1] == 1:
        return k
    order = torch.from_numpy(k.place.order)
    return replace(k, samples=k.samples[:, order], measured=k.measured[:, order])


def _pattern(inside: Tensor) -> dict[str, Tensor]:
    """Lines where the readout is whole, else a mask of samples; DC at index 0."""
    lines = inside[:, 0]
    return {"lines": lines} if bool((inside == lines[:, None]).all()) else {"mask": inside}


def _coil_maps(samples: Tensor, measured: Tensor, method: Method) -> Tensor:
    """Maps (P, coils, H, W) from k-space with DC at index 0."""
    try:
        maps = coilmaps.estimate(samples, measured, method)
    except ConfigError as e:
        raise ConfigError(
            "the scan has no fully sampled middle of k-space, from which coil maps could be estimated; one with "
            f"calibration lines is needed ({str(e).split(';')[0]})"
        ) from e
    if not bool(maps.any()):
        raise ConfigError("no coil maps were found in the middle of k-space; try --maps adaptive")
    return maps


def _grid(k: KSpace) -> tuple[tuple[int, int, int, int], bytes]:
    """Shape (C, phase, readout, slice) of the unknown, and its header."""
    frames, slices, _, readout, phase, partitions = k.samples.shape
    shape = (phase, readout, slices * partitions)
    voxel = (k.fov[1] / phase, k.fov[0] / readout, k.fov[2] / partitions)
    affine = unplaced(voxel) if k.place is None else k.place.affine(shape, voxel)
    empty = torch.zeros(1).expand(frames, *shape)
    return (frames, *shape), header_bytes(Volume(empty, affine, series=frames > 1))
