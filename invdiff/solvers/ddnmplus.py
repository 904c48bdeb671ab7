"""DDNM+ (Wang et al., ICLR 2023, Sec. 3.3): the noisy form of DDNM, mode by mode of the decomposition A = U S V^H.

With xb = V^H D(z, s0), yb = S^-1 U^H y and its noise sy = s / s_i, a measured mode becomes

    s1 >= sy         zb' = yb + sqrt(s1^2 - sy^2) xi
    s1 <  sy         zb' = xb + lam (yb - xb) + eta s1 xi,     lam = s1 sqrt(1 - eta^2) / sy

These are DDRM's steps with eta_b = 1; what differs is the start, which here does not know y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver
from invdiff.solvers.ddrm import DDRM, Problem


@dataclass(frozen=True, kw_only=True)
class DDNMPlus(DDRM):
    """DDNM with noise: operators with a singular value decomposition, one network call per level."""

    paper: ClassVar[str] = (
        "Wang et al., Zero-shot image restoration using denoising diffusion null-space model, ICLR 2023"
    )

    def start(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """A draw with the prior's moments at the highest level."""
        return DiffusionSolver.start(self, problem, prior, rng)
