"""p(y | A(x))."""

from invdiff.noise.base import NoiseModel
from invdiff.noise.gaussian import GaussianNoise
from invdiff.noise.noncentralchi import NonCentralChiNoise
from invdiff.noise.poisson import PoissonNoise
from invdiff.noise.rician import RicianNoise

__all__ = ["GaussianNoise", "NoiseModel", "NonCentralChiNoise", "PoissonNoise", "RicianNoise"]
