"""The yardsticks: adjoint, direct reconstruction, least squares, total variation. They need no prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from invdiff.linalg import cg
from invdiff.noise.base import NoiseModel
from invdiff.operators.base import LinearOperator
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import Iterate, Solver
from invdiff.solvers.fista import fista

Problem = InverseProblem[LinearOperator, NoiseModel]


@dataclass(frozen=True, kw_only=True)
class Adjoint(Solver[LinearOperator, NoiseModel, None]):
    """A^H y: the zero-filled image in MRI, unfiltered back-projection in CT."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"

    def iterate(self, problem: Problem, prior: None, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield once."""
        del prior, rng, start
        x = problem.operator.adjoint(problem.y)
        yield Iterate(0, 0.0, x, x)


@dataclass(frozen=True, kw_only=True)
class Direct(Solver[LinearOperator, NoiseModel, None]):
    """The customary direct reconstruction: zero-filling, filtered back-projection, density-compensated gridding."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"

    def iterate(self, problem: Problem, prior: None, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield once."""
        del prior, rng, start
        x = problem.operator.direct(problem.y)
        yield Iterate(0, 0.0, x, x)


@dataclass(frozen=True, kw_only=True)
class CG(Solver[LinearOperator, NoiseModel, None]):
    """Least squares min ||y - A x||^2 by conjugate gradients from zero; stopping early regularises.

    With coils in the operator it is CG-SENSE (Pruessmann et al., Advances in sensitivity encoding with arbitrary
    k-space trajectories, Magn. Reson. Med. 2001).
    """

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"
    paper: ClassVar[str] = "Hestenes and Stiefel, Methods of conjugate gradients, J. Res. NBS 1952"

    iterations: Annotated[int, Gt(0), Doc("Conjugate gradient steps.")] = 20

    def iterate(self, problem: Problem, prior: None, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield once."""
        del prior, rng
        A = problem.operator
        x = cg(A.normal, A.adjoint(problem.y), iterations=self.iterations, tolerance=1e-6)
        yield Iterate(0, 0.0, x, x)


@dataclass(frozen=True, kw_only=True)
class TV(Solver[LinearOperator, NoiseModel, None]):
    """Total variation, min 1/2 ||y - A x||^2 + weight TV(x), by FISTA with scikit-image's proximal map."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"
    paper: ClassVar[str] = "Beck and Teboulle, Fast gradient-based algorithms for constrained TV, IEEE TIP 2009"
    advice: ClassVar[str] = "check the operator's norm"

    weight: Annotated[float, Ge(0), Doc("Weight of the total variation, image scaled to [0, 1].")] = 0.005
    iterations: Annotated[int, Gt(0), Doc("FISTA steps.")] = 200

    def iterate(self, problem: Problem, prior: None, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per FISTA step."""
        del prior, rng
        yield from fista(problem, start, lambda u, _, scale: _prox_tv(u, self.weight * scale), self.iterations)

    @property
    def length(self) -> int:
        """One iterate per FISTA step."""
        return self.iterations


def _prox_tv(x: Tensor, weight: float) -> Tensor:
    """Isotropic TV of each row over its spatial axes, summed over channels."""
    if weight == 0:
        return x
    images = x.flatten(0, 1).cpu().numpy()
    # scikit-image's own tolerance, 2e-4, stops so early that FISTA loses 0.1 to 0.3 dB.
    smooth = denoise_tv_chambolle(images, weight=weight, eps=1e-5, max_num_iter=200, channel_axis=0)
    return torch.from_numpy(smooth).to(x).reshape(x.shape)
