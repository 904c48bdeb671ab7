"""Volumes: medical scans with their place in the world, read from and written to NIfTI."""

from invdiff.volumes.geometry import canonical, check_affine, crop, orientation, spacing
from invdiff.volumes.header import from_header_bytes, header_bytes
from invdiff.volumes.nifti import load, save
from invdiff.volumes.slices import from_slices, to_slices
from invdiff.volumes.volume import Volume, describe

__all__ = [
    "Volume",
    "canonical",
    "check_affine",
    "crop",
    "describe",
    "from_header_bytes",
    "from_slices",
    "header_bytes",
    "load",
    "orientation",
    "save",
    "spacing",
    "to_slices",
]
