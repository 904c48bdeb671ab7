"""p(y | A(x))."""

from invdiff.noise.base import NoiseModel
from invdiff.noise.gaussian import GaussianNoise

__all__ = ["GaussianNoise", "NoiseModel"]
