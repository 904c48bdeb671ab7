"""How good an image is."""

from invdiff.metrics.image import Likeness, evaluate
from invdiff.metrics.protocol import PRESETS, Protocol, preset

__all__ = ["PRESETS", "Likeness", "Protocol", "evaluate", "preset"]
