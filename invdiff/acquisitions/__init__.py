"""Settings of a scanner -> operator and noise; an acquisition's name is its class name in lower case."""

from invdiff.acquisitions.base import Acquisition
from invdiff.acquisitions.blur import Blur, MeasuredBlur, MotionBlur, VaryingBlur
from invdiff.acquisitions.conect import ConeCT, HelicalCT
from invdiff.acquisitions.ct import CT
from invdiff.acquisitions.denoise import Denoise
from invdiff.acquisitions.inpaint import Inpaint
from invdiff.acquisitions.lowres import LowRes, ThickSlices
from invdiff.acquisitions.mri import MRI
from invdiff.acquisitions.noncartesian import Radial, Spiral, Trajectory

__all__ = [
    "CT",
    "MRI",
    "Acquisition",
    "Blur",
    "ConeCT",
    "Denoise",
    "HelicalCT",
    "Inpaint",
    "LowRes",
    "MeasuredBlur",
    "MotionBlur",
    "Radial",
    "Spiral",
    "ThickSlices",
    "Trajectory",
    "VaryingBlur",
]
