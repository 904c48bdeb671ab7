"""Predictor and corrector of score-SDE (Song et al., ICLR 2021), of variances that explode.

    predictor   z' = z + (s0^2 - s1^2) score(z, s0) + sqrt(s0^2 - s1^2) xi
    corrector   z' = z + e score(z, s) + sqrt(2 e) xi,      e = 2 (snr ||xi|| / ||score||)^2

with score(z, s) = (D(z, s) - z) / s^2. The norms are of one sample: in the published codes they are means of a
minibatch of slices.
"""

from __future__ import annotations

import math
from typing import Annotated

from annotated_doc import Doc
from annotated_types import Gt
from torch import Tensor

from invdiff.linalg import norm, rows

Corrector = Annotated[bool, Doc("A Langevin step at each level besides the predictor: two network calls.")]
Snr = Annotated[float, Gt(0), Doc("Size of the Langevin step.")]


def predicted(x: Tensor, x0: Tensor, sigma: float, sigma_next: float, xi: Tensor | float = 0.0) -> Tensor:
    """The state at the next level, (B, *).

    Args:
        x: the state, (B, *).
        x0: its clean estimate, (B, *).
        sigma: its level.
        sigma_next: the one to go to; 0 returns x0, but for xi.
        xi: standard normal noise, (B, *), or 0 for none.
    """
    G2 = sigma**2 - sigma_next**2
    return x + G2 / sigma**2 * (x0 - x) + math.sqrt(G2) * xi


def corrected(x: Tensor, x0: Tensor, sigma: float, snr: float, xi: Tensor) -> Tensor:
    """The state after a Langevin step at its level, (B, *).

    Args:
        x: the state, (B, *).
        x0: its clean estimate, (B, *).
        sigma: its level.
        snr: the step's size.
        xi: standard normal noise, (B, *).
    """
    score = (x0 - x) / sigma**2
    e = 2 * rows(snr * norm(xi) / norm(score), x) ** 2
    return x + e * score + (2 * e).sqrt() * xi
