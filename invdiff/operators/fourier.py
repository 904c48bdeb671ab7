"""Cartesian Fourier sampling.

No operator here shifts at run time, which would cost several times the FFT itself: image index 0 is at the corner and
DC is at k-index 0. Masks are built in that order, or brought to it once by `centred_mask_to_fft`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.operators.base import LinearOperator, SVDOperator
from invdiff.operators.channels import ComplexFromChannels
from invdiff.operators.mask import Mask
from invdiff.space import Space


class FFT(LinearOperator):
    """Orthonormal 2-D Fourier transform over the last two axes; unitary.

    Args:
        space: complex images, (C, ..., H, W).

    Raises:
        ConfigError: when `space` is not complex.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not space.dtype.is_complex:
            raise ConfigError(f"FFT needs complex images, found {space}; put RealImage to its right")
        self.domain = self.range = space

    def forward(self, x: Tensor) -> Tensor:
        """Image -> k-space, DC at index 0."""
        return torch.fft.fft2(x, norm="ortho")

    def adjoint(self, y: Tensor) -> Tensor:
        """K-space -> image: the inverse."""
        return torch.fft.ifft2(y, norm="ortho")

    def normal(self, x: Tensor) -> Tensor:
        """The identity."""
        return x


class UndersampledFourier(SVDOperator):
    """Some Fourier coefficients of a real image: `Mask @ FFT @ RealImage` with its singular value decomposition.

    A real image has F(-k) = conj F(k), so A^H A multiplies F(k) by s(k)^2 = (M(k) + M(-k)) / 2, which is real and
    even. The Hartley transform, Re F - Im F (Bracewell 1983), diagonalises every such map and is real, symmetric and
    its own inverse: it is V.

    Args:
        space: real images, (C, H, W).
        mask: boolean, broadcasts to (H, W), DC at index 0.

    The range is (C, n), complex, in the order of `Mask`.

    Raises:
        ConfigError: when `space` is not real, the mask is not boolean or keeps nothing.
        ShapeError: when the mask does not broadcast to (H, W).
    """

    inverse: Tensor

    def __init__(self, space: Space, mask: Tensor) -> None:
        super().__init__()
        if not space.dtype.is_floating_point:
            raise ConfigError(f"UndersampledFourier needs real images, found {space}; use UndersampledComplexFourier")
        self.mask = Mask(Space(space.shape, space.dtype.to_complex()), mask)
        self.domain, self.range = space, self.mask.range
        M = self.mask.singular_values
        s = ((M + M.flip(-2, -1).roll((1, 1), (-2, -1))) / 2).sqrt()  # index -k modulo the size
        self.register_buffer("singular_values", s)
        self.register_buffer("inverse", torch.where(s > 0, 1 / s, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) real -> (B, C, n) complex."""
        return self.mask.U(torch.fft.fft2(x, norm="ortho"))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, n) complex -> (B, C, H, W) real."""
        return torch.fft.ifft2(self.mask.UH(y), norm="ortho").real.contiguous()

    def normal(self, x: Tensor) -> Tensor:
        """Multiply F(k) by s(k)^2."""
        return self._filter(x, self.singular_values**2)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int) -> Tensor:
        """Closed form: divide F(k) by s(k)^2 + rho; `iterations` is not used."""
        return self._filter(self.adjoint(y) + rho * x, 1 / (self.singular_values**2 + rho))

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        # Real FFTs cost half of V and V^H; they need an even gain.
        half = gain[:, : x.shape[-1] // 2 + 1]
        return torch.fft.irfft2(half * torch.fft.rfft2(x), s=x.shape[-2:])

    def U(self, modes: Tensor) -> Tensor:
        """A V s^-1 on the measured modes, zero on the others."""
        return self.forward(self.V(self.inverse * modes))

    def UH(self, y: Tensor) -> Tensor:
        """s^-1 V^H A^H on the measured modes, zero on the others."""
        return self.inverse * self.VH(self.adjoint(y))

    def V(self, modes: Tensor) -> Tensor:
        """The Hartley transform."""
        F = torch.fft.fft2(modes, norm="ortho")
        return F.real - F.imag

    def VH(self, x: Tensor) -> Tensor:
        """The Hartley transform, which is its own inverse."""
        return self.V(x)


class UndersampledComplexFourier(SVDOperator):
    """Some Fourier coefficients of a complex image: `Mask @ FFT @ ComplexFromChannels` with its decomposition.

    V is the inverse Fourier transform on pairs of channels, s the mask.

    Args:
        space: real and imaginary channels, (2 C, H, W).
        mask: boolean, broadcasts to (H, W), DC at index 0.

    The range is (C, n), complex, in the order of `Mask`.

    Raises:
        ConfigError: when `space` has no pairs of real channels, the mask is not boolean or keeps nothing.
        ShapeError: when the mask does not broadcast to (H, W).
    """

    def __init__(self, space: Space, mask: Tensor) -> None:
        super().__init__()
        self.pairs = ComplexFromChannels(space)
        self.mask = Mask(self.pairs.range, mask)
        self.domain, self.range = space, self.mask.range
        self.singular_values: Tensor
        self.register_buffer("singular_values", self.mask.singular_values)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 C, H, W) real -> (B, C, n) complex."""
        return self.mask.U(torch.fft.fft2(self.pairs(x), norm="ortho"))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, n) complex -> (B, 2 C, H, W) real."""
        return self.V(self.UH(y))

    def normal(self, x: Tensor) -> Tensor:
        """Multiply F(k) by the mask."""
        return self.V(self.singular_values * self.VH(x))

    def U(self, modes: Tensor) -> Tensor:
        """Select: (B, 2 C, H, W) -> (B, C, n)."""
        return self.mask.U(self.pairs(modes))

    def UH(self, y: Tensor) -> Tensor:
        """Scatter into zeros: (B, C, n) -> (B, 2 C, H, W)."""
        return self.pairs.adjoint(self.mask.UH(y))

    def V(self, modes: Tensor) -> Tensor:
        """K-space -> image, both as channels."""
        return self.pairs.adjoint(torch.fft.ifft2(self.pairs(modes), norm="ortho"))

    def VH(self, x: Tensor) -> Tensor:
        """Image -> k-space, both as channels."""
        return self.pairs.adjoint(torch.fft.fft2(self.pairs(x), norm="ortho"))


def centred_mask_to_fft(mask: Tensor) -> Tensor:
    """Move DC from the middle, index (H // 2, W // 2), to index (0, 0); axes of length 1 stay."""
    return torch.fft.ifftshift(mask, dim=(-2, -1))
