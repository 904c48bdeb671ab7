"""Architectures, and nothing else: no training, no checkpoints, no noise levels.

A network's name on a card is its class name in lower case.
"""

from __future__ import annotations

from typing import Any

from invdiff.networks.adm import ADM
from invdiff.networks.base import Network
from invdiff.networks.demodulated import Demodulated
from invdiff.networks.dhariwalunet import DhariwalUNet
from invdiff.networks.diffusers import DiffusersUNet2D
from invdiff.networks.ncsnpp import NCSNpp
from invdiff.networks.songunet import SongUNet
from invdiff.networks.unet import UNet

__all__ = ["ADM", "Demodulated", "DhariwalUNet", "DiffusersUNet2D", "NCSNpp", "Network", "SongUNet", "UNet", "build"]


def build(name: str, config: dict[str, Any]) -> Network:
    """The architecture called `name` with these constructor arguments; raises KeyError for an unknown name."""
    known = {n.lower(): globals()[n] for n in __all__ if n not in ("Network", "build")}
    return known[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
