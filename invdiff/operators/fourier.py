"""Cartesian Fourier sampling.

No operator here shifts at run time, which would cost several times the FFT itself: image index 0 is at the corner and
DC is at k-index 0. Masks are built in that order, or brought to it once by `centred_mask_to_fft`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators.base import SVDOperator, Unitary
from invdiff.operators.channels import ComplexFromChannels
from invdiff.operators.mask import Mask
from invdiff.space import Space


class FFT(Unitary):
    """Orthonormal Fourier transform over the last two or three axes; unitary.

    Args:
        space: complex images, (C, ..., H, W); several channels, e.g. coils, are transformed one by one.
        dims: number of axes that are transformed, counted from the last one.

    Raises:
        ConfigError: when `space` is not complex.
        ShapeError: when `space` has fewer than `dims` spatial axes.
    """

    def __init__(self, space: Space, dims: int = 2) -> None:
        super().__init__()
        if not space.dtype.is_complex:
            raise ConfigError(f"FFT needs complex images, found {space}; put RealImage to its right")
        self.domain = self.range = space
        self.axes = _axes(space, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Image -> k-space, DC at index 0."""
        return torch.fft.fftn(x, dim=self.axes, norm="ortho")

    def adjoint(self, y: Tensor) -> Tensor:
        """K-space -> image: the inverse."""
        return torch.fft.ifftn(y, dim=self.axes, norm="ortho")


class UndersampledFourier(SVDOperator):
    """Some Fourier coefficients of a real image: `Mask @ FFT @ RealImage` with its singular value decomposition.

    A real image has F(-k) = conj F(k), so A^H A multiplies F(k) by s(k)^2 = (M(k) + M(-k)) / 2, which is real and
    even. The Hartley transform, Re F - Im F (Bracewell 1983), diagonalises every such map and is real, symmetric and
    its own inverse: it is V.

    Args:
        space: real images, (C, H, W) or (C, X, Y, Z).
        mask: boolean, broadcasts to the spatial shape, DC at index 0.
        dims: number of axes that are transformed, counted from the last one.

    The range is (C, n), complex, in the order of `Mask`.

    Raises:
        ConfigError: when `space` is not real, the mask is not boolean or keeps nothing.
        ShapeError: when the mask does not broadcast, or `space` has fewer than `dims` spatial axes.
    """

    inverse: Tensor

    def __init__(self, space: Space, mask: Tensor, dims: int = 2) -> None:
        super().__init__()
        self.axes = _axes(space, dims)
        if not space.dtype.is_floating_point:
            raise ConfigError(f"UndersampledFourier needs real images, found {space}; use UndersampledComplexFourier")
        self.mask = Mask(Space(space.shape, space.dtype.to_complex()), mask)
        self.domain, self.range = space, self.mask.range
        M = self.mask.singular_values
        s = ((M + M.flip(self.axes).roll((1,) * dims, self.axes)) / 2).sqrt()  # index -k modulo the size
        self.register_buffer("singular_values", s)
        self.register_buffer("inverse", torch.where(s > 0, 1 / s, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) real -> (B, C, n) complex."""
        return self.mask.U(torch.fft.fftn(x, dim=self.axes, norm="ortho"))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, n) complex -> (B, C, *spatial) real."""
        return torch.fft.ifftn(self.mask.UH(y), dim=self.axes, norm="ortho").real.contiguous()

    def normal(self, x: Tensor) -> Tensor:
        """Multiply F(k) by s(k)^2."""
        return self._filter(x, self.singular_values**2)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int, tolerance: float = 3e-7) -> Tensor:
        """Closed form: divide F(k) by s(k)^2 + rho; `iterations` is not used."""
        return self._filter(self.adjoint(y) + rho * x, 1 / (self.singular_values**2 + rho))

    def direct(self, y: Tensor) -> Tensor:
        """Zero-filling, each line that was measured standing in for its mirror line too: the pseudo-inverse."""
        return self.pinv(y)

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        # Real FFTs cost half of V and V^H; they need an even gain.
        half = gain[..., : x.shape[-1] // 2 + 1]
        sizes = [x.shape[a] for a in self.axes]
        return torch.fft.irfftn(half * torch.fft.rfftn(x, dim=self.axes), s=sizes, dim=self.axes)

    def U(self, modes: Tensor) -> Tensor:
        """A V s^-1 on the measured modes, zero on the others."""
        return self.forward(self.V(self.inverse * modes))

    def UH(self, y: Tensor) -> Tensor:
        """s^-1 V^H A^H on the measured modes, zero on the others."""
        return self.inverse * self.VH(self.adjoint(y))

    def V(self, modes: Tensor) -> Tensor:
        """The Hartley transform."""
        F = torch.fft.fftn(modes, dim=self.axes, norm="ortho")
        return F.real - F.imag

    def VH(self, x: Tensor) -> Tensor:
        """The Hartley transform, which is its own inverse."""
        return self.V(x)


class UndersampledComplexFourier(SVDOperator):
    """Some Fourier coefficients of a complex image: `Mask @ FFT @ ComplexFromChannels` with its decomposition.

    V is the inverse Fourier transform on pairs of channels, s the mask.

    Args:
        space: real and imaginary channels, (2 C, H, W) or (2 C, X, Y, Z).
        mask: boolean, broadcasts to the spatial shape, DC at index 0.
        dims: number of axes that are transformed, counted from the last one.

    The range is (C, n), complex, in the order of `Mask`.

    Raises:
        ConfigError: when `space` has no pairs of real channels, the mask is not boolean or keeps nothing.
        ShapeError: when the mask does not broadcast, or `space` has fewer than `dims` spatial axes.
    """

    def __init__(self, space: Space, mask: Tensor, dims: int = 2) -> None:
        super().__init__()
        self.axes = _axes(space, dims)
        self.pairs = ComplexFromChannels(space)
        self.mask = Mask(self.pairs.range, mask)
        self.domain, self.range = space, self.mask.range
        self.singular_values: Tensor
        self.register_buffer("singular_values", self.mask.singular_values)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 C, *spatial) real -> (B, C, n) complex."""
        return self.mask.U(torch.fft.fftn(self.pairs(x), dim=self.axes, norm="ortho"))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, n) complex -> (B, 2 C, *spatial) real."""
        return self.V(self.UH(y))

    def direct(self, y: Tensor) -> Tensor:
        """Zero-filling, which is the pseudo-inverse too."""
        return self.adjoint(y)

    def normal(self, x: Tensor) -> Tensor:
        """Multiply F(k) by the mask."""
        return self.V(self.singular_values * self.VH(x))

    def U(self, modes: Tensor) -> Tensor:
        """Select: (B, 2 C, *spatial) -> (B, C, n)."""
        return self.mask.U(self.pairs(modes))

    def UH(self, y: Tensor) -> Tensor:
        """Scatter into zeros: (B, C, n) -> (B, 2 C, *spatial)."""
        return self.pairs.adjoint(self.mask.UH(y))

    def V(self, modes: Tensor) -> Tensor:
        """K-space -> image, both as channels."""
        return self.pairs.adjoint(torch.fft.ifftn(self.pairs(modes), dim=self.axes, norm="ortho"))

    def VH(self, x: Tensor) -> Tensor:
        """Image -> k-space, both as channels."""
        return self.pairs.adjoint(torch.fft.fftn(self.pairs(x), dim=self.axes, norm="ortho"))


def centred_mask_to_fft(mask: Tensor, dims: int = 2) -> Tensor:
    """Move DC from the middle, index n // 2, to index 0 along the last `dims` axes; axes of length 1 stay."""
    return torch.fft.ifftshift(mask, dim=tuple(range(-dims, 0)))


def _axes(space: Space, dims: int) -> tuple[int, ...]:
    """The last `dims` axes of a batch, checked."""
    if not 1 <= dims < len(space.shape):
        raise ShapeError(f"a Fourier transform over {dims} axes does not fit images of {space}; give dims = 2 or 3")
    return tuple(range(-dims, 0))
