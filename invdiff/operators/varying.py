"""A blur that changes over the image."""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.border import Border, Boundary, check_kernel, sides
from invdiff.space import Space


class VaryingConvolution(LinearOperator):
    """A blur that varies over the image: A x = sum_k h_k * (w_k x) (Nagy and O'Leary, SIAM J. Sci. Comput. 1998).

    The image is cut into a grid of equal regions, each with a kernel that is true at its centre; in between the weights
    w_k are linear along each axis, beyond the outermost centres constant; they sum to 1 at every voxel.

    Args:
        space: real images, (C, *spatial); channels are convolved one by one.
        kernels: real, (*grid, *kernel): one grid axis, then one kernel axis, for each spatial one.
        boundary: circular, reflect or zero, as in `convolution`.

    Costs one FFT per kernel and one more; one padded image is held at a time.

    Raises:
        ConfigError, ShapeError: as `Convolution`, and for a grid of another number of axes or finer than the image.
    """

    def __init__(self, space: Space, kernels: Tensor, boundary: Boundary = "reflect") -> None:
        super().__init__()
        sizes = space.shape[1:]
        if kernels.ndim != 2 * len(sizes):
            raise ShapeError(
                f"kernels of {sides(kernels.shape)} do not fit images of {space}: {len(sizes)} axes of a grid, then "
                f"{len(sizes)} of the kernel are needed"
            )
        grid, shape = kernels.shape[: len(sizes)], kernels.shape[len(sizes) :]
        if any(g > n for g, n in zip(grid, sizes, strict=True)):
            raise ShapeError(f"a grid of {sides(grid)} kernels is finer than images of {space}; take fewer")
        for kernel in kernels.reshape(-1, *shape):
            check_kernel(space, kernel)
        self.domain = self.range = space
        self.grid = tuple(grid)
        self.border = Border.of(space, shape, boundary)
        self.register_buffer("transfer", self.border.transfer(kernels, space.dtype))
        for axis, (n, g) in enumerate(zip(sizes, grid, strict=True)):
            self.register_buffer(f"hats{axis}", _hats(n, g).to(space.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Weigh, blur and add, (B, C, *spatial)."""
        parts = (self._transfer(k) * self.border.spectrum(self._weight(k) * x) for k in self._nodes())
        return self.border.image(reduce(torch.add, parts))

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlate, weigh and add."""
        Y = self.border.image_adjoint(y)
        parts = (self._weight(k) * self.border.spectrum_adjoint(self._transfer(k).conj() * Y) for k in self._nodes())
        return reduce(torch.add, parts)

    def _nodes(self) -> product[tuple[int, ...]]:
        return product(*map(range, self.grid))

    def _transfer(self, node: tuple[int, ...]) -> Tensor:
        transfer: Tensor = self.get_buffer("transfer")
        return transfer[node]

    def _weight(self, node: tuple[int, ...]) -> Tensor:
        hats = (self.get_buffer(f"hats{axis}")[k] for axis, k in enumerate(node))
        return reduce(lambda w, hat: w[..., None] * hat, hats)


def _hats(n: int, nodes: int) -> Tensor:
    """Weights of `nodes` equal regions at n samples, (nodes, n) float64: linear between their centres; sum 1."""
    centres = (np.arange(nodes) + 0.5) * n / nodes - 0.5
    return torch.from_numpy(np.stack([np.interp(np.arange(n), centres, e) for e in np.eye(nodes)]))
