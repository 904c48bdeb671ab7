"""Part of a measurement is left out, to judge a reconstruction of the rest by: lines of k-space, views, else elements.

With the truth unknown, what a reconstruction says of numbers that it has not seen is the honest measure of it
(self-supervision by splitting: Yaman et al., Magn. Reson. Med. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.operators import (
    Composed,
    Identity,
    LinearOperator,
    Mask,
    Sense,
    UndersampledComplexFourier,
    UndersampledFourier,
)
from invdiff.problem import InverseProblem
from invdiff.rng import generator

Problem = InverseProblem[Any, Any]
# Of the lines of k-space the strongest third is always kept. Without the middle there is no image, and what would be
# judged is how to do without it: total variation is then tuned to four times the best weight, 1 dB of PSNR worse.
STRONGEST = 1 / 3


class Split(NamedTuple):
    """The problem of what is kept, that of what is held out, and how many groups of which kind these are."""

    kept: Problem
    held: Problem
    kind: str
    groups: int
    held_groups: int


class Part(Composed):
    """Some of what an operator measures: a Mask on its range."""

    def direct(self, y: Tensor) -> Tensor:
        """A few steps of least squares: a direct reconstruction would take what is missing for zeros."""
        return LinearOperator.direct(self, y)

    def _rows(self, index: Sequence[int]) -> LinearOperator:
        return Part(self.A.rows(index), self.B.rows(index))


def split(problem: Problem, *, views: bool = False, fraction: float = 0.2, seed: int = 0) -> Split:
    """Divide a measurement at random, by whole groups.

    Operators that end in a mask (Cartesian MRI, inpainting, denoising) stay of their kind, with a smaller mask.

    Args:
        problem: a linear one.
        views: whether the first axis of the range, after the channels, counts views.
        fraction: of the groups that is held out, in (0, 1).
        seed: of the draw.

    Raises:
        ConfigError: fraction out of range, or fewer than four groups.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the fraction that is held out lies between 0 and 1, got {fraction:g}")
    A = problem.operator
    kind, labels = groups(A, views=views)
    count = int(labels.max()) + 1
    if count < 4:
        raise ConfigError(f"the measurement has {count} {kind}; at least 4 are needed to hold some out")
    order = torch.randperm(count, generator=generator(seed, "hold out"))
    if problem.y.is_complex():
        energy = torch.zeros(count, dtype=torch.float64)
        energy.index_add_(0, labels.flatten(), problem.y.abs().double().square().sum((0, 1)).flatten().cpu())
        size = torch.bincount(labels.flatten(), minlength=count)
        strongest = (energy / size).topk(max(1, round(STRONGEST * count))).indices
        order = order[~torch.isin(order, strongest)]
    out = order[: min(max(1, round(fraction * count)), len(order))]
    keep = ~torch.isin(labels, out)
    return Split(part(problem, keep), part(problem, ~keep), kind, count, len(out))


def groups(A: LinearOperator, *, views: bool = False) -> tuple[str, Tensor]:
    """What is held out together: its name, and the number of the group of each element, of the range's spatial shape.

    Behind a mask on k-space or on an image these are its lines along the axes that are measured as a whole.
    """
    mask = leading_mask(A)
    if mask is not None:
        varying = [i for i in range(mask.ndim) if not bool((mask == mask.narrow(i, 0, 1)).all())]
        if not varying:  # all was measured: phase encoding runs along the first axis
            varying = [0] if A.range.dtype.is_complex else list(range(mask.ndim))
        sides = [n if i in varying else 1 for i, n in enumerate(mask.shape)]
        numbers = torch.arange(math.prod(sides)).reshape(sides).expand(mask.shape)[mask]
        kind = "lines of k-space" if A.range.dtype.is_complex else "measured elements"
        return kind, numbers.unique(return_inverse=True)[1].reshape(A.range.shape[1:])
    shape = A.range.shape[1:]
    if views:
        return "views", torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    return "measured elements", torch.arange(math.prod(shape)).reshape(shape)


def part(problem: Problem, keep: Tensor) -> Problem:
    """The problem of the elements of the measurement where `keep`, of the range's spatial shape, is True."""
    A = problem.operator
    select, mask = Mask(A.range, keep), leading_mask(A)
    if mask is None:
        smaller: LinearOperator = Part(select, A)
    else:
        measured = mask.clone()
        mask[measured] = keep.flatten()
        smaller = _with_mask(A, mask)
    place = problem.y.device
    select, smaller = select.to(place), smaller.to(place)
    return replace(problem, operator=smaller, y=select(problem.y))


def leading_mask(A: LinearOperator) -> Tensor | None:
    """The boolean mask that an operator ends in, of its spatial shape; None where it does not."""
    if isinstance(A, Sense | UndersampledFourier | UndersampledComplexFourier):
        return A.mask.singular_values.bool().cpu()
    if isinstance(A, Composed) and not isinstance(A, Part):
        return leading_mask(A.A)
    if isinstance(A, Mask):
        return A.singular_values.bool().cpu()
    return torch.ones(A.domain.shape[1:], dtype=torch.bool) if isinstance(A, Identity) else None


def _with_mask(A: LinearOperator, mask: Tensor) -> LinearOperator:
    """The same operator with another mask; `leading_mask` has found one."""
    if isinstance(A, Sense):
        return A.masked(mask)
    if isinstance(A, Composed):
        return Composed(_with_mask(A.A, mask), A.B)
    if isinstance(A, UndersampledFourier | UndersampledComplexFourier):
        return type(A)(A.domain, mask, len(A.axes))
    return Mask(A.domain, mask)
