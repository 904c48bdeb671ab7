"""The bridge between two Gaussian ends in closed form: what a perfectly trained network would say."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.bridges.base import Bridge
from invdiff.bridges.process import Process
from invdiff.space import Space


class GaussianBridge(Bridge):
    """E[x0 | x_t], or E[x0 | x_t, x1], of jointly Gaussian ends.

    Args:
        space: of both ends, n voxels.
        process: the way between them.
        conditional: whether x1 is known beside the state.
        mean0, mean1: of the ends, (n,).
        C00, C01, C11: covariances of the ends with each other, (n, n).
    """

    def __init__(
        self,
        space: Space,
        process: Process,
        *,
        conditional: bool,
        mean0: Tensor,
        mean1: Tensor,
        C00: Tensor,
        C01: Tensor,
        C11: Tensor,
    ) -> None:
        super().__init__(space, process, conditional=conditional)
        self.mean0, self.mean1, self.C00, self.C01, self.C11 = mean0, mean1, C00, C01, C11

    def clean(self, x: Tensor, x1: Tensor, t: int) -> Tensor:
        """The regression of x0 on what is known, (B, *space.shape)."""
        a, s = float(self.process.a[t]), float(self.process.s[t])
        C00, C01, C11 = self.C00, self.C01, self.C11
        C0t = (1 - a) * C00 + a * C01
        Ct = (1 - a) ** 2 * C00 + a * (1 - a) * (C01 + C01.T) + a**2 * C11 + s**2 * torch.eye(len(C00)).to(C00)
        known = x.flatten(1) - (1 - a) * self.mean0 - a * self.mean1
        if self.conditional:
            Ct1 = (1 - a) * C01 + a * C11
            Ct, C0t = torch.cat([torch.cat([Ct, Ct1], 1), torch.cat([Ct1.T, C11], 1)]), torch.cat([C0t, C01], 1)
            known = torch.cat([known, x1.flatten(1) - self.mean1], 1)
        gain = C0t @ torch.linalg.pinv(Ct, hermitian=True, rtol=1e-12)
        return (self.mean0 + known @ gain.T).reshape(x.shape)
