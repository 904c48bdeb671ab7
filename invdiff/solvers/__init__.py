"""p(x | y), one paper a file; a solver's name is its class name in lower case."""

from invdiff.solvers.base import DiffusionSolver, Iterate, Solver
from invdiff.solvers.classical import CG, TV, Adjoint, Direct
from invdiff.solvers.diffpir import DiffPIR
from invdiff.solvers.dps import DPS
from invdiff.solvers.guided import GuidedSolver

__all__ = ["CG", "DPS", "TV", "Adjoint", "DiffPIR", "DiffusionSolver", "Direct", "GuidedSolver", "Iterate", "Solver"]
