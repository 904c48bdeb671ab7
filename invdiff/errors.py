"""Errors that say what was asked, what was found and what to do. Each carries the exit code of the command line."""

from __future__ import annotations

from typing import ClassVar


class InvdiffError(Exception):
    """Root of all errors that invdiff raises on purpose; anything else is a bug."""

    exit_code: ClassVar[int] = 1


class ConfigError(InvdiffError, ValueError):
    """Unknown name or setting, a value out of range, an output that exists, a missing extra."""

    exit_code = 2


class CapabilityError(InvdiffError, TypeError):
    """A solver was given an operator, a noise model or a prior that it cannot use."""

    exit_code = 2


class ShapeError(InvdiffError, ValueError):
    """Tensors or files whose sizes do not belong together."""

    exit_code = 4


class FileError(InvdiffError, OSError):
    """A file that is missing, damaged, of another format or version, or cannot be written."""

    exit_code = 4


class DatasetError(InvdiffError, OSError):
    """Training data that is missing, or does not go together."""

    exit_code = 4


class GeometryError(InvdiffError, ValueError):
    """A volume without a usable place in the world: wrong number of axes, singular affine, empty."""

    exit_code = 4


class PriorError(InvdiffError, ValueError):
    """A prior that is missing, damaged, or does not fit the data."""

    exit_code = 5


class OutOfMemoryError(InvdiffError, MemoryError):
    """The run does not fit in memory."""

    exit_code = 6


class DivergedError(InvdiffError, ArithmeticError):
    """The iterate is no longer finite. Nothing is repaired: the run ends here."""

    exit_code = 7


class GateError(InvdiffError):
    """A measured value fell short of the gate that the user set."""

    exit_code = 8
