"""Volumes inside a page: NIfTI of 8 bits a voxel, gzipped, in base64."""

from __future__ import annotations

import base64
import gzip
from typing import TYPE_CHECKING, Any

import matplotlib
import nibabel
import numpy as np
from skimage.measure import block_reduce

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invdiff_cli.report.views import Array, Scan

_nib: Any = nibabel
MAX_VOXELS = 3_000_000  # of each volume; larger ones are averaged over blocks
OFFSET = 352  # of the voxels in a NIfTI file without extensions


def payload(name: str, scan: Scan) -> dict[str, Any]:
    """What the viewer needs of a scan; `start` is the voxel that it opens at."""
    blocks = reduction(scan)
    affine = scan.affine @ np.diag([*blocks, 1.0])
    affine[:3, 3] += scan.affine[:3, :3] @ ((np.array(blocks) - 1) / 2)  # the centre of the first block
    small = {role: _averaged(image.shown, blocks) for role, image in scan.images.items()}
    shape = small["mean"].shape
    return {
        "name": name,
        "blocks": list(blocks),
        "shape": shape,
        "spacing": [s * b for s, b in zip(scan.spacing, blocks, strict=True)],
        "affine": affine.tolist(),
        "start": [min(c // b, n - 1) for c, b, n in zip(scan.centre(), blocks, shape, strict=True)],
        "images": [
            {
                "role": role,
                "title": image.title,
                "colours": image.colours,
                "low": image.low,
                "high": image.high,
                "nifti": _packed(small[role], affine, image.low, image.high),
            }
            for role, image in scan.images.items()
        ],
    }


def reduction(scan: Scan) -> tuple[int, int, int]:
    """Voxels along each axis that become one: the finest axes are halved until the volume is small enough."""
    blocks = [1, 1, 1]
    while np.prod([n // b for n, b in zip(scan.shape, blocks, strict=True)]) > MAX_VOXELS:
        blocks[int(np.argmin([s * b for s, b in zip(scan.spacing, blocks, strict=True)]))] *= 2
    x, y, z = blocks
    return x, y, z


def colour_maps() -> dict[str, list[list[int]]]:
    """Red, green and blue of the 256 steps of each colour map; `overlay` never darkens what is below it."""
    names = {"gray": "gray", "magma": "magma", "overlay": "autumn"}
    steps = np.linspace(0, 1, 256)
    return {k: (255 * matplotlib.colormaps[v](steps)[:, :3]).round().astype(int).tolist() for k, v in names.items()}


def _averaged(x: Array, blocks: tuple[int, int, int]) -> Array:
    if blocks == (1, 1, 1):
        return x
    whole = tuple(slice(n - n % b) for n, b in zip(x.shape, blocks, strict=True))  # a cut block would be darker
    return block_reduce(x[whole], blocks, np.mean)


def _packed(x: Array, affine: NDArray[np.float64], low: float, high: float) -> str:
    header = _nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(x.shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1, strip_shears=True)
    header.set_slope_inter((high - low) / 255, low)
    header["vox_offset"] = OFFSET
    header["magic"] = b"n+1"
    greys = np.round(255 * np.clip((x - low) / (high - low), 0, 1)).astype(np.uint8)
    raw = header.binaryblock + bytes(OFFSET - len(header.binaryblock)) + greys.tobytes("F")
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()
