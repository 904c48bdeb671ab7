"""p(x | y), one paper a file; a solver's name is its class name in lower case."""

from invdiff.solvers.base import DiffusionSolver, Iterate, Solver
from invdiff.solvers.cddb import CDDB
from invdiff.solvers.classical import CG, TV, Adjoint, Direct
from invdiff.solvers.daps import DAPS
from invdiff.solvers.ddnm import DDNM
from invdiff.solvers.ddnmplus import DDNMPlus
from invdiff.solvers.ddrm import DDRM
from invdiff.solvers.dds import DDS
from invdiff.solvers.dds3d import DDS3D
from invdiff.solvers.diffpir import DiffPIR
from invdiff.solvers.dmid import DMID
from invdiff.solvers.dps import DPS
from invdiff.solvers.flowdps import FlowDPS
from invdiff.solvers.guided import GuidedSolver
from invdiff.solvers.i2sb import I2SB
from invdiff.solvers.mbir import DiffusionMBIR
from invdiff.solvers.mmps import MMPS
from invdiff.solvers.pigdm import PiGDM
from invdiff.solvers.pnp import PnP
from invdiff.solvers.pnpdm import PnPDM
from invdiff.solvers.reddiff import REDdiff
from invdiff.solvers.rsd import RSD
from invdiff.solvers.scd import SCD
from invdiff.solvers.tpdm import TPDM
from invdiff.solvers.wavelet import Wavelet

__all__ = [
    "CDDB",
    "CG",
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DDS3D",
    "DMID",
    "DPS",
    "I2SB",
    "MMPS",
    "RSD",
    "SCD",
    "TPDM",
    "TV",
    "Adjoint",
    "DDNMPlus",
    "DiffPIR",
    "DiffusionMBIR",
    "DiffusionSolver",
    "Direct",
    "FlowDPS",
    "GuidedSolver",
    "Iterate",
    "PiGDM",
    "PnP",
    "PnPDM",
    "REDdiff",
    "Solver",
    "Wavelet",
]
