"""One matrix per axis: Gaussian blur, larger voxels, thick slices and any other separable physics.

Banded matrices stored dense and applied by matrix products are the fastest form on a CPU, take any boundary rule, have
an exact adjoint, and shrink an axis when they are rectangular. An axis of n costs n^2 per line whatever the band:
beyond a thousand voxels or so along one axis, a direct convolution would do less work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import cast

import torch
from torch import Tensor, nn

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import SVDOperator
from invdiff.space import Space

FWHM = 2.354820045  # full width at half maximum of a Gaussian, in standard deviations


class Separable(SVDOperator):
    """y = (M_1 x M_2 x ...) x on (C, *spatial): each matrix acts along its axis, channels are left alone.

    Args:
        space: the images, (C, n_1, n_2, ...).
        matrices: one (m_i, n_i) for each spatial axis, or None to leave the axis alone; the range is
            (C, m_1, m_2, ...).

    Where no voxel of x enters two of the measurements, as in block averages, A A^H is diagonal, and prox, solve_y and
    pinv need one A and one A^H (the Woodbury identity); else they go through the axes' singular value decompositions.

    Modes whose singular value is below max(m_i, n_i) eps of an axis' largest one count as not measured.

    Raises:
        ShapeError: when number or width of the matrices does not match the spatial shape.
    """

    def __init__(self, space: Space, matrices: Sequence[Tensor | None]) -> None:
        super().__init__()
        sizes = space.shape[1:]
        widths = tuple("any" if M is None else M.shape[1] for M in matrices)
        if len(widths) != len(sizes) or any(w not in ("any", n) for w, n in zip(widths, sizes, strict=True)):
            raise ShapeError(
                f"matrices of widths {widths} do not fit images of {space}: one per spatial axis is needed"
            )
        self.axes = nn.ModuleList(_Axis(M, space.dtype) for M in matrices)
        heights = (n if M is None else M.shape[0] for M, n in zip(matrices, sizes, strict=True))
        self.domain = space
        self.range = Space((space.shape[0], *heights), space.dtype)

    @property
    def singular_values(self) -> Tensor:  # type: ignore[override]
        """Outer product of the axes' singular values; broadcasts against one channel, 1 along axes left alone."""
        return _outer([axis.svd[1] for axis in self._axes()])

    @property
    def gram(self) -> Tensor | None:
        """The diagonal of A A^H where it is diagonal, broadcasts against one channel of y; else None."""
        diagonals = [axis.gram for axis in self._axes()]
        return None if any(d is None for d in diagonals) else _outer(cast(list[Tensor], diagonals))

    @cached_property
    def norm2(self) -> float:
        """||A||^2, exact: the product of those of the axes."""
        return math.prod(axis.norm2 for axis in self._axes())

    def forward(self, x: Tensor) -> Tensor:
        """Apply each matrix along its axis."""
        return _apply_along([axis.matrix for axis in self._axes()], x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply each conjugate transpose along its axis."""
        return _apply_along([_mH(axis.matrix) for axis in self._axes()], y)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int = 0, tolerance: float = 3e-7) -> Tensor:
        """Closed form of `LinearOperator.prox`; `iterations` is not used."""
        if self.gram is None:
            return super().prox(y, x, rho, iterations=iterations, tolerance=tolerance)
        return x + self.adjoint((y - self(x)) / (self.gram + rho))

    def solve_y(self, y: Tensor, rho: float, *, iterations: int = 0) -> Tensor:
        """Closed form of `LinearOperator.solve_y`; `iterations` is not used."""
        return super().solve_y(y, rho, iterations=iterations) if self.gram is None else y / (self.gram + rho)

    def pinv(self, y: Tensor, *, iterations: int = 0) -> Tensor:
        """Closed form of `LinearOperator.pinv`; `iterations` is not used."""
        if self.gram is None:
            return super().pinv(y)
        return self.adjoint(torch.where(self.gram > 0, 1 / self.gram, 0.0) * y)

    def direct(self, y: Tensor) -> Tensor:
        """The pseudo-inverse where it is cheap: block means are spread over their blocks."""
        return super().direct(y) if self.gram is None else self.pinv(y)

    def U(self, modes: Tensor) -> Tensor:
        """The measured modes of each axis, turned into measurements."""
        return _apply_along([axis.svd[0] for axis in self._axes()], modes)

    def UH(self, y: Tensor) -> Tensor:
        """Adjoint of U."""
        return _apply_along([_mH(axis.svd[0]) for axis in self._axes()], y)

    def V(self, modes: Tensor) -> Tensor:
        """Modes -> images."""
        return _apply_along([_mH(axis.svd[2]) for axis in self._axes()], modes)

    def VH(self, x: Tensor) -> Tensor:
        """Images -> modes."""
        return _apply_along([axis.svd[2] for axis in self._axes()], x)

    def _axes(self) -> list[_Axis]:
        return [cast(_Axis, axis) for axis in self.axes]


class _Axis(nn.Module):
    """A matrix (m, n) and, once asked for, U (m, n), s (n,) and V^H (n, n), as buffers that move together.

    An axis that is left alone has None for the matrices and (1,) for the vectors. `gram` is the diagonal of M M^H,
    (m,), where each sample enters at most one of the m values; else None.
    """

    matrix: Tensor | None
    gram: Tensor | None

    def __init__(self, matrix: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        one = torch.ones(1, dtype=dtype.to_real())
        M = None if matrix is None else matrix.to(dtype)
        self.register_buffer("matrix", M)
        if M is None:
            self.register_buffer("gram", one)
            for name, factor in zip(("U", "s", "VH"), (None, one, None), strict=True):
                self.register_buffer(name, factor)
        else:
            disjoint = bool(((M != 0).sum(0) <= 1).all())
            self.register_buffer("gram", (M.abs() ** 2).sum(1) if disjoint else None)

    @property
    def svd(self) -> tuple[Tensor | None, Tensor, Tensor | None]:
        if not hasattr(self, "VH"):
            for name, factor in zip(("U", "s", "VH"), _square_svd(cast(Tensor, self.matrix)), strict=True):
                self.register_buffer(name, factor)
        return cast(tuple[Tensor | None, Tensor, Tensor | None], (self.U, self.s, self.VH))

    @property
    def norm2(self) -> float:
        return float(self.svd[1].max()) ** 2 if self.gram is None else float(self.gram.max())


def _square_svd(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, n), s (n,) and V^H (n, n), computed in double precision; U and s are zero on the unmeasured modes."""
    m, n = M.shape
    U, s, VH = torch.linalg.svd(M.to(torch.promote_types(M.dtype, torch.float64)), full_matrices=True)
    rank = int((s > max(m, n) * torch.finfo(M.dtype).eps * s[0]).sum())
    U = torch.cat([U[:, :rank], U.new_zeros(m, n - rank)], dim=1)
    s = torch.cat([s[:rank], s.new_zeros(n - rank)])
    return U.to(M.dtype), s.to(M.dtype.to_real()), VH.to(M.dtype)


def _outer(vectors: Sequence[Tensor]) -> Tensor:
    return reduce(lambda s, s_i: s[..., None] * s_i, vectors)


def _mH(M: Tensor | None) -> Tensor | None:
    return None if M is None else M.mH


def _apply_along(matrices: Sequence[Tensor | None], x: Tensor) -> Tensor:
    for dim, M in enumerate(matrices, start=2):
        if M is None:
            continue
        if dim == x.ndim - 1:
            x = x @ M.mT  # one product for all rows: many times faster than a batch of products with vectors
        else:
            shape = x.shape
            x = M @ x.reshape(-1, shape[dim], math.prod(shape[dim + 1 :]))
            x = x.reshape(*shape[:dim], len(M), *shape[dim + 1 :])
    return x


def gaussian_matrix(n: int, std: float) -> Tensor:
    """Gaussian smoothing of n samples, (n, n) float64: `scipy.ndimage.gaussian_filter1d(mode="reflect")`.

    Args:
        n: number of samples.
        std: standard deviation in samples; the kernel is cut at 4 std, and 0 gives the identity.

    Raises:
        ConfigError: when `std` is negative.
    """
    if not std >= 0:
        raise ConfigError(f"the standard deviation of a blur must be >= 0 voxels, got {std:g}")
    if std == 0:
        return torch.eye(n, dtype=torch.float64)
    reach = int(4 * std + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / std) ** 2)
    source = (torch.arange(n)[:, None] + offsets) % (2 * n)  # d c b a | a b c d | d c b a
    source = torch.minimum(source, 2 * n - 1 - source)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weights / weights.sum()).expand(n, -1))


def gaussian_blur(space: Space, std: Sequence[float]) -> Separable:
    """Gaussian blur with one standard deviation per spatial axis, in voxels; raises as `gaussian_matrix` does."""
    one_per_axis("standard deviations", std, space)
    return Separable(space, [gaussian_matrix(n, s) if s else None for n, s in zip(space.shape[1:], std, strict=True)])


def one_per_axis(name: str, values: Sequence[float], space: Space) -> None:
    """Refuse, by a ShapeError, `values` that are not as many as the spatial axes."""
    if len(values) != len(space.shape) - 1:
        raise ShapeError(f"{len(values)} {name} given for images of {space}: one per spatial axis is needed")
