"""How images go on beyond their borders when they are convolved by FFT."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.space import Space

Boundary = Literal["circular", "reflect", "zero"]


@dataclass(frozen=True)
class Border:
    """How images go on beyond their borders, and the FFT of what is then long enough for a linear convolution.

    Attributes:
        sizes: of the image along its spatial axes.
        boundary: circular, reflect or zero.
        before, after: mirrored samples on either side; 0 unless the boundary reflects.
        start: where the image lies in the result of the convolution.
        lengths: of the FFT.
    """

    sizes: tuple[int, ...]
    boundary: Boundary
    before: tuple[int, ...]
    after: tuple[int, ...]
    start: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, space: Space, kernel: torch.Size, boundary: Boundary) -> Border:
        """The border of images of `space` under kernels of shape `kernel`."""
        sizes, none = space.shape[1:], (0,) * len(kernel)
        if boundary == "circular":
            return cls(sizes, boundary, none, none, none, sizes)
        lengths = tuple(next_fast_len(n + k - 1, real=True) for n, k in zip(sizes, kernel, strict=True))
        if boundary == "zero":
            return cls(sizes, boundary, none, none, tuple(k // 2 for k in kernel), lengths)
        before, after = tuple(k - 1 - k // 2 for k in kernel), tuple(k // 2 for k in kernel)
        return cls(sizes, boundary, before, after, tuple(k - 1 for k in kernel), lengths)

    @property
    def dims(self) -> tuple[int, ...]:
        """The spatial axes of a batch, counted from the end."""
        return tuple(range(-len(self.sizes), 0))

    def placed(self, kernels: Tensor) -> Tensor:
        """Kernels, (..., *kernel), in the frame of the FFT; their centre at index 0 if the boundary is circular."""
        shape = kernels.shape[-len(self.sizes) :]
        pad = [p for n, k in zip(reversed(self.lengths), reversed(shape), strict=True) for p in (0, n - k)]
        placed = F.pad(kernels, pad)
        return placed.roll([-(k // 2) for k in shape], self.dims) if self.boundary == "circular" else placed

    def transfer(self, kernels: Tensor, dtype: torch.dtype) -> Tensor:
        """Fourier transforms of the kernels, computed in double precision."""
        return torch.fft.rfftn(self.placed(kernels.double()), dim=self.dims).to(dtype.to_complex())

    def spectrum(self, x: Tensor) -> Tensor:
        """Images -> spectra of what goes on beyond them."""
        for dim, before, after in zip(self.dims, self.before, self.after, strict=True):
            if before + after:
                head, tail = x.narrow(dim, 0, before), x.narrow(dim, x.shape[dim] - after, after)
                x = torch.cat([head.flip(dim), x, tail.flip(dim)], dim)
        return torch.fft.rfftn(x, s=self.lengths, dim=self.dims)

    def spectrum_adjoint(self, spectrum: Tensor) -> Tensor:
        """Adjoint of `spectrum`, but for the weights of the inverse FFT: with `image_adjoint` it makes an adjoint."""
        x = torch.fft.irfftn(spectrum, s=self.lengths, dim=self.dims)
        for dim, n, before, after in zip(self.dims, self.sizes, self.before, self.after, strict=True):
            head, tail = x.narrow(dim, 0, before).flip(dim), x.narrow(dim, before + n, after).flip(dim)
            x = x.narrow(dim, before, n)
            if before + after:
                x = x.clone()
                x.narrow(dim, 0, before).add_(head)
                x.narrow(dim, n - after, after).add_(tail)
        return x.contiguous()

    def image(self, spectrum: Tensor) -> Tensor:
        """Spectra of the result -> its part in the frame of the image."""
        y = torch.fft.irfftn(spectrum, s=self.lengths, dim=self.dims)
        for dim, n, start in zip(self.dims, self.sizes, self.start, strict=True):
            y = y.narrow(dim, start, n)
        return y.contiguous()

    def image_adjoint(self, y: Tensor) -> Tensor:
        """Adjoint of `image`, but for the weights of the FFT."""
        frame = zip(reversed(self.start), reversed(self.lengths), reversed(self.sizes), strict=True)
        pad = [p for start, length, n in frame for p in (start, length - n - start)]
        return torch.fft.rfftn(F.pad(y, pad), dim=self.dims)


def check_kernel(space: Space, kernel: Tensor) -> None:
    """Refuse kernels that cannot blur images of `space`; raises as `Convolution` does."""
    sizes = space.shape[1:]
    if space.dtype.is_complex:
        raise ConfigError(f"a blur needs real images, found {space}; give real and imaginary part as channels")
    if kernel.ndim != len(sizes) or prod(kernel.shape) == 0:
        raise ShapeError(
            f"a kernel of {sides(kernel.shape)} does not fit images of {space}: {len(sizes)} axes are needed"
        )
    if any(k > n for k, n in zip(kernel.shape, sizes, strict=True)):
        raise ShapeError(f"a kernel of {sides(kernel.shape)} is larger than images of {space}; crop the kernel")
    if kernel.is_complex() or not bool(torch.isfinite(kernel).all()):
        raise ConfigError("the kernel holds complex, NaN or infinite values; a blur needs finite real ones")


def sides(shape: tuple[int, ...]) -> str:
    """A shape in words, e.g. 3x5."""
    return "x".join(map(str, shape)) or "0 axes"
