"""Settings of a scanner -> operator and noise; an acquisition's name is its class name in lower case."""

from invdiff.acquisitions.base import Acquisition
from invdiff.acquisitions.ct import CT
from invdiff.acquisitions.image import Blur, Denoise, Inpaint, LowRes
from invdiff.acquisitions.mri import MRI

__all__ = ["CT", "MRI", "Acquisition", "Blur", "Denoise", "Inpaint", "LowRes"]
