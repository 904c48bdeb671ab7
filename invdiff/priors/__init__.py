"""p(x), through its denoiser."""

from invdiff.priors.base import Prior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import MixturePrior
from invdiff.priors.network import NetworkPrior
from invdiff.priors.perpendicular import PerpendicularPrior
from invdiff.priors.product import ProductPrior
from invdiff.priors.scaling import Scaling, Units
from invdiff.priors.slicewise import SlicewisePrior
from invdiff.priors.steered import SteeredPrior
from invdiff.priors.tiled import TiledPrior
from invdiff.priors.warm import WarmPrior

__all__ = [
    "GaussianPrior",
    "MixturePrior",
    "NetworkPrior",
    "PerpendicularPrior",
    "Prior",
    "ProductPrior",
    "Scaling",
    "SlicewisePrior",
    "SteeredPrior",
    "TiledPrior",
    "Units",
    "WarmPrior",
]
