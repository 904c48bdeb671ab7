"""Incomplete images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from invdiff.acquisitions.base import Acquisition, uniform
from invdiff.errors import ConfigError, ShapeError
from invdiff.kernels import read_array
from invdiff.operators import Diagonal, LinearOperator, Mask
from invdiff.space import Space


@dataclass(frozen=True, kw_only=True)
class Inpaint(Acquisition):
    """Missing voxels: random ones, the same in every slice, or those that a file leaves out."""

    missing: Annotated[float, Gt(0), Lt(1), Doc("Fraction of the voxels that is missing, at random.")] = 0.5
    mask: Annotated[
        str | None,
        Doc("File, .npy or NIfTI, not 0 where measured, instead of missing: one slice, or a volume of slices."),
    ] = None
    mask_axis: Annotated[int, Ge(0), Le(2), Doc("Axis across the slices of a mask that is a volume.")] = 2

    def maps(self, space: Space, spacing: tuple[float, ...], seed: int) -> dict[str, Tensor]:
        """`mask`: bool, True where measured: (H, W), or (P, H, W) where slices miss different voxels."""
        del spacing
        if self.mask is None:
            return {"mask": uniform(seed, "mask", space.shape[1:]) >= self.missing}
        return {"mask": read_mask(Path(self.mask), space.shape[1:], self.mask_axis)}

    def operator(self, space: Space, spacing: tuple[float, ...], maps: dict[str, Tensor]) -> LinearOperator:
        """The voxels that are left; of slices that miss different ones, zeros where they are missing."""
        del spacing
        mask = maps["mask"]
        if mask.ndim == 2:
            return Mask(space, mask)
        return Diagonal(space, mask[:, None].to(space.dtype))


def read_mask(path: Path, sizes: tuple[int, ...], axis: int) -> Tensor:
    """Voxels that were measured, from a file: bool, (H, W), or (P, H, W) for a volume whose slices differ.

    Args:
        path: .npy or NIfTI, not 0 where measured.
        sizes: (H, W) of a slice.
        axis: that counts the slices of a volume.

    Raises:
        FileError: missing, unreadable or of another format.
        ShapeError: slices of another size.
        ConfigError: a slice of which nothing would be measured, NaN in the mask.
    """
    values = read_array(path, (2, 3))[0]
    if np.isnan(values).any():
        raise ConfigError(f"{path} holds NaN; a mask is 0 where voxels are missing and anything else where not")
    masks = torch.from_numpy(values != 0)
    masks = masks.movedim(axis, 0) if masks.ndim == 3 else masks[None]
    if tuple(masks.shape[1:]) != tuple(sizes):
        found, want = ("x".join(map(str, s)) for s in (masks.shape[1:], sizes))
        raise ShapeError(f"{path} masks slices of {found}, those of the scan are {want}; check --axis and --mask-axis")
    empty = (~masks.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ConfigError(f"{path} is 0 in all of slice {empty[0]}: nothing of it would be measured; leave it out")
    return masks[0] if bool((masks == masks[:1]).all()) else masks.contiguous()
