"""Steerable conditional diffusion (Barbano et al., TMI 2025): DDS with a prior that was adapted to the scan.

    x0*  = CG_M from x0 on  (I + gamma A^H A) x = x0 + gamma A^H y,   x0 = D'(z, s0) of the adapted network
    e    = (z - D(z, s0)) / s0                                        of the network as it was trained

The weights are adapted by `invdiff.steering` before; with a prior that was not, these are the numbers of DDS, bit for
bit.

parity: `code` returns the last x0, before conjugate gradients; and as DDS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.solvers.base import at
from invdiff.solvers.dds import DDS
from invdiff.solvers.guided import Problem, noise_of
from invdiff.solvers.samplers import Estimate


@dataclass(frozen=True, kw_only=True)
class SCD(DDS):
    """Steerable conditional diffusion: linear operators, a prior adapted to the scan; two network calls per level."""

    paper: ClassVar[str] = "Barbano et al., Steerable conditional diffusion for out-of-distribution adaptation in medical image reconstruction, IEEE TMI 2025"  # noqa: E501  # fmt: skip

    def estimate(self, problem: Problem, prior: Prior, x: Tensor, sigma: float, sigma_next: float) -> Estimate:
        """Conjugate gradients from the image of the adapted network; the noise as the trained one sees it."""
        level = at(sigma, x)
        x0 = prior.denoise(x, level)
        e = noise_of(x, prior.trained.denoise(x, level), sigma)
        last = self.parity == "code" and sigma_next == 0
        return Estimate(x0 if last else self.towards_data(problem, x0), e)

    @property
    def nfe(self) -> int:
        """Both networks once a level."""
        return 2 * super().nfe
