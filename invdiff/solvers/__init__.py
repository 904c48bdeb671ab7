"""p(x | y), one paper a file; a solver's name is its class name in lower case."""

from invdiff.solvers.base import DiffusionSolver, Iterate, Solver
from invdiff.solvers.classical import CG, TV, Adjoint, Direct
from invdiff.solvers.ddnm import DDNM
from invdiff.solvers.ddnmplus import DDNMPlus
from invdiff.solvers.ddrm import DDRM
from invdiff.solvers.dds import DDS
from invdiff.solvers.diffpir import DiffPIR
from invdiff.solvers.dps import DPS
from invdiff.solvers.guided import GuidedSolver
from invdiff.solvers.mmps import MMPS
from invdiff.solvers.pigdm import PiGDM

__all__ = [
    "CG",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "MMPS",
    "TV",
    "Adjoint",
    "DDNMPlus",
    "DiffPIR",
    "DiffusionSolver",
    "Direct",
    "GuidedSolver",
    "Iterate",
    "PiGDM",
    "Solver",
]
