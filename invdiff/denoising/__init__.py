"""Denoising of diffusion series: Di-Fusion, and what it is measured against."""

from invdiff.denoising.base import Denoiser, Run, Series
from invdiff.denoising.difusion import DiFusion
from invdiff.denoising.mppca import MPPCA
from invdiff.denoising.nlmeans import NLMeans
from invdiff.denoising.patch2self import Patch2Self
from invdiff.denoising.series import Denoised, denoise

__all__ = ["MPPCA", "Denoised", "Denoiser", "DiFusion", "NLMeans", "Patch2Self", "Run", "Series", "denoise"]
