"""Between real and complex images."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.operators.base import LinearOperator, Unitary
from invdiff.space import Space


class RealImage(LinearOperator):
    """A real image as a complex one whose imaginary part is zero; the right end of a product of complex operators.

    Linear over the reals: under Re<u, v> the adjoint takes the real part, and A^H A = I.

    Args:
        space: the real images, (C, *spatial). The range has the same shape and the matching complex dtype.

    Raises:
        ConfigError: when `space` is not real.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not space.dtype.is_floating_point:
            raise ConfigError(f"RealImage needs real images, found {space}")
        self.domain, self.range = space, Space(space.shape, space.dtype.to_complex())

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) real -> (B, *shape) complex."""
        return torch.complex(x, torch.zeros_like(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """The real part."""
        return y.real.contiguous()  # a view would keep the complex tensor alive

    def normal(self, x: Tensor) -> Tensor:
        """The identity."""
        return x


class ComplexFromChannels(Unitary):
    """Pairs of real channels as complex images: C real parts, then C imaginary parts.

    Unitary over the reals: A^H A = A A^H = I under Re<u, v>.

    Args:
        space: the real images, (2 C, *spatial). The range is (C, *spatial), complex.

    Raises:
        ConfigError: when `space` is not real or has an odd number of channels.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not space.dtype.is_floating_point or space.shape[0] % 2:
            raise ConfigError(f"ComplexFromChannels needs real images with an even number of channels, found {space}")
        self.domain = space
        self.range = Space((space.shape[0] // 2, *space.shape[1:]), space.dtype.to_complex())

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 C, *spatial) real -> (B, C, *spatial) complex."""
        return torch.complex(*x.chunk(2, dim=1))

    def adjoint(self, y: Tensor) -> Tensor:
        """Real parts, then imaginary parts."""
        return torch.cat([y.real, y.imag], dim=1)
