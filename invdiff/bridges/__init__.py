"""Maps from degraded to clean images, learned for a task."""

from invdiff.bridges.base import Bridge
from invdiff.bridges.family import Family
from invdiff.bridges.gaussian import GaussianBridge
from invdiff.bridges.network import NetworkBridge
from invdiff.bridges.process import Process, i2sb, indi, process

__all__ = ["Bridge", "Family", "GaussianBridge", "NetworkBridge", "Process", "i2sb", "indi", "process"]
