"""Sparse wavelets: min_x 1/2 ||y - A x||^2 + weight ||W x||_1 by FISTA (Beck and Teboulle 2009; Lustig et al. 2007).

W are Daubechies' wavelets through PyWavelets, by default with 4 vanishing moments (8 taps), and images go on beyond
their border by reflection; the approximation band costs nothing. Each step sees the image shifted by another number of
voxels (cycle spinning, Coifman and Donoho 1995; Figueiredo and Nowak 2003), which keeps the grid of the wavelets out of
it. The shifts are the same in every run. FISTA's momentum would carry their randomness on, and the objective would end
above that of steps without it: it fades out over the run. The coefficients of a complex image, in two channels, count
by their magnitude.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pywt  # type: ignore[import-untyped]
import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor

from invdiff.noise.base import NoiseModel
from invdiff.operators.base import LinearOperator
from invdiff.problem import InverseProblem
from invdiff.rng import Rng, generator
from invdiff.solvers.base import Iterate, Solver
from invdiff.solvers.fista import fista

MODE, LEVELS = "symmetric", 4
Family = Literal["db1", "db2", "db4"]
Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Wavelet(Solver[LinearOperator, NoiseModel, None]):
    """Wavelet sparsity, min 1/2 ||y - A x||^2 + weight ||W x||_1, by FISTA with random shifts: compressed sensing."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"
    paper: ClassVar[str] = "Lustig, Donoho and Pauly, Sparse MRI, Magn. Reson. Med. 2007"
    advice: ClassVar[str] = "check the operator's norm"

    weight: Annotated[float, Ge(0), Doc("Weight of the wavelet coefficients, image scaled to [0, 1].")] = 0.005
    family: Annotated[
        Family, Doc("Daubechies' wavelets of 1 (Haar, much like TV), 2 or 4 vanishing moments; few suit small images.")
    ] = "db4"
    iterations: Annotated[int, Gt(0), Doc("FISTA steps.")] = 100

    def iterate(
        self, problem: InverseProblem[LinearOperator, NoiseModel], prior: None, rng: Rng, start: Iterate
    ) -> Iterator[Iterate]:
        """Yield one iterate per FISTA step."""
        del prior, rng
        axes = tuple(range(2, start.x.ndim))

        def prox(u: Tensor, step: int, scale: float) -> Tensor:
            shift = tuple(_shift(step, axis, u.shape[axis]) for axis in axes)
            moved = shrink(torch.roll(u, shift, axes), self.weight * scale, self.family)
            return torch.roll(moved, tuple(-n for n in shift), axes)

        yield from fista(problem, start, prox, self.iterations, fading=True)

    @property
    def length(self) -> int:
        """One iterate per FISTA step."""
        return self.iterations


def shrink(x: Tensor, weight: float, family: Family = "db4") -> Tensor:
    """W^-1 of the coefficients W x whose magnitudes, over channels, are less by `weight`, at least 0; (B, C, *spatial).

    The proximal map of weight ||W x||_1, exact but for voxels near the border.
    """
    if weight == 0 or not _axes(x.shape, family):
        return x
    approximation, *details = coefficients(x.cpu().numpy(), family)
    shrunk = [{band: _soft(c, weight) for band, c in level.items()} for level in details]
    y = pywt.waverecn([approximation, *shrunk], family, MODE, axes=_axes(x.shape, family))
    return torch.from_numpy(y[tuple(map(slice, x.shape))]).to(x)


def coefficients(x: Array, family: Family = "db4") -> list[Any]:
    """W x over the spatial axes: the approximation band, then a dictionary of bands per level, coarse to fine.

    Axes too short for the wavelets, of fewer than 14 voxels for db4, are left out.
    """
    axes = _axes(x.shape, family)
    levels = min(pywt.dwt_max_level(x.shape[a], family) for a in axes)
    return pywt.wavedecn(x, family, MODE, level=min(LEVELS, levels), axes=axes)


def _axes(shape: Sequence[int], family: Family) -> tuple[int, ...]:
    return tuple(a for a in range(2, len(shape)) if pywt.dwt_max_level(shape[a], family))


def _soft(c: Array, weight: float) -> Array:
    magnitude = np.sqrt((c**2).sum(1, keepdims=True))
    return c * np.maximum(1 - weight / np.maximum(magnitude, weight), 0).astype(c.dtype)


def _shift(step: int, axis: int, side: int) -> int:
    return int(torch.randint(side, (), generator=generator("wavelet", step, axis)))
