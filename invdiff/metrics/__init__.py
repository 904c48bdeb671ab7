"""How good an image is."""

from invdiff.metrics.image import evaluate

__all__ = ["evaluate"]
