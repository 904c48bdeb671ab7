"""The laws of operators, on one small operator of each family: adjoint, gradient, norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff import coilmaps, trajectories
from invdiff.linalg import dot, norm, power_iteration
from invdiff.operators import (
    NUFFT,
    Coils,
    ComplexFromChannels,
    FanBeam,
    LinearOperator,
    Mask,
    ParallelRadon,
    Sense,
    average_pool,
    gaussian_blur,
)
from invdiff.space import Space
from invdiff.testing.operators import draw

PLANE, PAIR = Space((1, 20, 24)), Space((2, 20, 24))
ADJOINT, GRADIENT, NORM = 1e-5, 1e-5, 0.02


@dataclass(frozen=True)
class OperatorLaws:
    """What was found; float32.

    Attributes:
        adjoint: |<A x, y> - <x, A^H y>| / (|A x| |y|).
        gradient: relative difference of autograd and A^H.
        norm: relative difference of `norm2` and of a long power iteration.
    """

    adjoint: float
    gradient: float
    norm: float

    @property
    def ok(self) -> bool:
        """Whether all hold."""
        return self.adjoint < ADJOINT and self.gradient < GRADIENT and self.norm < NORM


def families() -> dict[str, LinearOperator]:
    """One operator of each family."""
    maps = coilmaps.simulate(4, (20, 24), (1.0, 1.0), 0)
    pairs = ComplexFromChannels(PAIR)
    coils = Coils(pairs.range, maps)
    lines = (torch.arange(20) % 3 == 0)[:, None]
    radial = trajectories.radial((20, 24), 12, golden=True)
    angles = torch.arange(18) * (math.pi / 18)
    cube = Space((1, 12, 12, 10))
    return {
        "cartesian mri, 4 coils": Sense(coils, lines) @ pairs,
        "radial mri, 4 coils": NUFFT(coils.range, radial, backend="gridding") @ coils @ pairs,
        "parallel-beam ct": ParallelRadon(PLANE, angles),
        "fan-beam ct": FanBeam(PLANE, 2 * angles, 60.0, 100.0),
        "blur": gaussian_blur(PLANE, (1.0, 1.5)),
        "low resolution": average_pool(PLANE, (2, 3)),
        "inpainting": Mask(PLANE, torch.rand(20, 24, generator=torch.Generator().manual_seed(0)) < 0.5),
        "thick slices, 3-D": average_pool(cube, (1, 1, 2)),
    }


def check(A: LinearOperator) -> OperatorLaws:
    """Measure the laws on 3 random rows."""
    x, y = draw(A.domain, 3, "x"), draw(A.range, 3, "y")
    Ax, AHy = A(x), A.adjoint(y)
    gap = (dot(Ax, y) - dot(x, AHy)).abs() / (norm(Ax) * norm(y))
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(dot(A(x), y).sum(), x)
    largest = float(power_iteration(A.normal, draw(A.domain, 1, "norm"), iterations=300)[0])
    return OperatorLaws(float(gap.max()), _relative(gradient, AHy), abs(A.norm2 / largest - 1))


def _relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())
