"""p(x), through its denoiser."""

from invdiff.priors.base import Prior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import MixturePrior
from invdiff.priors.network import NetworkPrior
from invdiff.priors.scaling import Scaling, Units
from invdiff.priors.steered import SteeredPrior

__all__ = ["GaussianPrior", "MixturePrior", "NetworkPrior", "Prior", "Scaling", "SteeredPrior", "Units"]
