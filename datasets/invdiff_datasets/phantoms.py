"""Images that are made, not measured: their truth is known and they need no download."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


class Ellipses:
    """Random ellipses on a disk: the training domain of out-of-distribution CT (Barbano et al. 2025).

    Up to 140 ellipses, their number Poisson(140); value U(-0.4, 1); semi-axes 0.2 x 0.4745 x Exp(1); centre at a
    radius that is triangular on (0, 0.4745) with its mode at 0.4745; any angle; lengths relative to half the image.
    The foreground's least value is subtracted and the result divided by its maximum: values in [0, 1].
    """

    channels = 1

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Phantoms (count, 1, size, size)."""
        return torch.stack([self._phantom(size, generator) for _ in range(count)])[:, None]

    def _phantom(self, size: int, g: Generator) -> Tensor:
        n = max(1, min(int(torch.poisson(torch.tensor(140.0), generator=g)), 140))
        u = torch.rand((6, n), generator=g)
        value = 1.4 * u[0] - 0.4
        a, b = (-0.2 * 0.4745 * torch.log1p(-u[1:3])).clamp_min(1e-3).unbind()
        radius, angle, turn = 0.4745 * u[3].sqrt(), 2 * math.pi * u[4], 2 * math.pi * u[5]
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        y, x = axis[:, None, None], axis[None, :, None]  # ellipses along the last axis
        dx, dy = x - radius * angle.cos(), y - radius * angle.sin()
        along, across = dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin()
        image = ((along / a) ** 2 + (across / b) ** 2 <= 1).float() @ value
        inside = image != 0
        if not bool(inside.any()):
            return image
        image = torch.where(inside, image - image[inside].min(), image)
        return image / image.max().clamp_min(1e-6)
