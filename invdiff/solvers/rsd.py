"""RSD (Zilberstein et al., ICLR 2025): RED-diff with particles that push each other apart, to find several answers.

    k_ij = exp(-||mu_i - mu_j||^2 / h),   h = median ||mu_i - mu_j||^2 / log(P + 1)
    R_i  = sum_j (2 / h) k_ij (mu_i - mu_j)
    e_hat - e   becomes   e_hat - e - gamma b R_i,   b = sigma / sqrt(1 + sigma^2)

h is one for all pairs and the sum is not normalised, so the pushes cancel and the mean of the particles moves as
RED-diff's. The published bandwidth has log(P - 1), which two particles do not survive. Below `sigma_break` the pushes
fade out, lest they spoil the fit of the data. Pixel space only. The spread of the particles is not the posterior's.

The particles of an ensemble are the seeds gP .. gP + P - 1: a seed gives the same particle, alone or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff.linalg import rows
from invdiff.solvers.reddiff import REDdiff


@dataclass(frozen=True, kw_only=True)
class RSD(REDdiff):
    """Repulsive score distillation: linear operators, several answers; their spread is not the posterior's."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "sample"
    paper: ClassVar[str] = "Zilberstein et al., Repulsive latent score distillation for solving inverse problems, ICLR 2025"  # noqa: E501  # fmt: skip
    advice: ClassVar[str] = "lower gamma or lr"

    particles: Annotated[int, Ge(2), Doc("P, seeds that know of each other.")] = 4
    gamma: Annotated[float, Ge(0), Doc("Strength of the repulsion.")] = 1.0
    sigma_break: Annotated[float, Gt(0), Doc("Level below which the repulsion fades out.")] = 0.1

    @property
    def group(self) -> int:
        """The particles of one ensemble."""
        return self.particles

    def _repulsion(self, mu: Tensor, sigma: Tensor) -> Tensor:
        ensembles = mu.unflatten(0, (-1, self.particles))
        apart = ensembles[:, :, None] - ensembles[:, None]  # (G, P, P, *shape)
        d2 = apart.flatten(3).square().sum(-1)
        above = torch.triu_indices(self.particles, self.particles, 1)
        h = d2[:, above[0], above[1]].median(1).values.clamp_min(1e-30) / math.log(self.particles + 1)
        k = torch.exp(-d2 / h[:, None, None]) * (2 / h[:, None, None])
        R = torch.einsum("gij,gij...->gi...", k, apart).flatten(0, 1)
        fade = (sigma / self.sigma_break).clamp_max(1.0) ** 2
        return -rows(self.gamma * fade * sigma / (1 + sigma**2).sqrt(), mu) * R
