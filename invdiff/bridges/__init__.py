"""Maps from degraded to clean images, learned for a task."""

from invdiff.bridges.base import Bridge
from invdiff.bridges.process import Process, i2sb, indi

__all__ = ["Bridge", "Process", "i2sb", "indi"]
