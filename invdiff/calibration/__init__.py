"""Corrections of an uncertainty, learned from reconstructions whose truth is known."""

from invdiff.calibration.file import Calibration, load, save
from invdiff.calibration.learning import Check, check, learn
from invdiff.calibration.scans import Scan, body, compared, method

__all__ = ["Calibration", "Check", "Scan", "body", "check", "compared", "learn", "load", "method", "save"]
