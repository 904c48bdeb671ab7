"""Blur by any kernel, by FFT in two or three dimensions.

The centre of a kernel of k samples is sample k // 2 along each axis, as in `scipy.ndimage.convolve`:
y[i] = sum_j h[j] x[i - j + k // 2]. Kernels are taken as they are: a blur that keeps the mean has sum 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.operators.base import LinearOperator, SVDOperator
from invdiff.operators.border import Border, Boundary, check_kernel
from invdiff.space import Space


def convolution(space: Space, kernel: Tensor, boundary: Boundary = "reflect") -> CircularConvolution | Convolution:
    """Convolution with `kernel` of an image that goes on beyond its borders as `boundary` says; see the two classes."""
    return CircularConvolution(space, kernel) if boundary == "circular" else Convolution(space, kernel, boundary)


class CircularConvolution(SVDOperator):
    """y = h * x on an image that repeats itself, with its singular value decomposition.

    The Fourier transform H of a real kernel has H(-k) = conj H(k). The Hartley transform, Re F - Im F (Bracewell 1983),
    is real, symmetric and its own inverse: it is V. Then s = |H|, and U is V followed by a filter with the phase of H.

    Args:
        space: real images, (C, *spatial); channels are convolved one by one.
        kernel: real, one axis for each spatial one, no longer than the image along any.

    Modes with |H| below max(spatial) eps of its maximum count as not measured.

    Raises:
        ConfigError: complex images or kernel, or a kernel with NaN or infinite values.
        ShapeError: a kernel that is empty, larger than the image or has another number of axes.
    """

    transfer: Tensor
    phase: Tensor

    def __init__(self, space: Space, kernel: Tensor) -> None:
        super().__init__()
        check_kernel(space, kernel)
        self.domain = self.range = space
        self.border = Border.of(space, kernel.shape, "circular")
        H = torch.fft.fftn(self.border.placed(kernel.double()))
        axes = tuple(range(H.ndim))
        s2 = H.abs() ** 2
        s = ((s2 + s2.flip(axes).roll((1,) * H.ndim, axes)) / 2).sqrt()  # exactly even, in spite of rounding
        s = torch.where(s > max(H.shape) * torch.finfo(space.dtype).eps * s.max(), s, 0.0)
        half = slice(H.shape[-1] // 2 + 1)
        cplx = space.dtype.to_complex()
        self.register_buffer("transfer", H[..., half].to(cplx))
        self.register_buffer("phase", torch.where(s > 0, H / s, 0.0)[..., half].to(cplx))
        self.register_buffer("singular_values", s.to(space.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """H * x, (B, C, *spatial)."""
        return self._filter(x, self.transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlation with h."""
        return self._filter(y, self.transfer.conj())

    def normal(self, x: Tensor) -> Tensor:
        """Multiply F(k) by |H(k)|^2."""
        return self._filter(x, self._gain)

    def prox(self, y: Tensor, x: Tensor, rho: float, *, iterations: int = 0, tolerance: float = 3e-7) -> Tensor:
        """Wiener's closed form of `LinearOperator.prox`; `iterations` is not used."""
        Y, X = self.border.spectrum(y), self.border.spectrum(x)
        return self.border.image((self.transfer.conj() * Y + rho * X) / (self._gain + rho))

    def solve_y(self, y: Tensor, rho: float, *, iterations: int = 0) -> Tensor:
        """Closed form: divide F(k) by |H(k)|^2 + rho; `iterations` is not used."""
        return self._filter(y, 1 / (self._gain + rho))

    def U(self, modes: Tensor) -> Tensor:
        """The phase of H on the images of the modes, zero on those that are not measured."""
        return self._filter(self.V(modes), self.phase)

    def UH(self, y: Tensor) -> Tensor:
        """Adjoint of U."""
        return self.V(self._filter(y, self.phase.conj()))

    def V(self, modes: Tensor) -> Tensor:
        """The Hartley transform."""
        spectrum = torch.fft.fftn(modes, dim=self.border.dims, norm="ortho")
        return spectrum.real - spectrum.imag

    def VH(self, x: Tensor) -> Tensor:
        """The Hartley transform, which is its own inverse."""
        return self.V(x)

    @property
    def _gain(self) -> Tensor:
        return self.transfer.abs() ** 2

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        return self.border.image(gain * self.border.spectrum(x))


class Convolution(LinearOperator):
    """y = h * x where the image is 0 beyond its borders, or its own mirror (d c b a | a b c d | d c b a).

    Args:
        space: real images, (C, *spatial); channels are convolved one by one.
        kernel: real, one axis for each spatial one, no longer than the image along any.
        boundary: zero or reflect; circular for the same map as `CircularConvolution`, which has closed forms.

    Raises:
        ConfigError: complex images or kernel, or a kernel with NaN or infinite values.
        ShapeError: a kernel that is empty, larger than the image or has another number of axes.
    """

    transfer: Tensor

    def __init__(self, space: Space, kernel: Tensor, boundary: Boundary = "reflect") -> None:
        super().__init__()
        check_kernel(space, kernel)
        self.domain = self.range = space
        self.border = Border.of(space, kernel.shape, boundary)
        self.register_buffer("transfer", self.border.transfer(kernel, space.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """H * x, (B, C, *spatial)."""
        return self.border.image(self.transfer * self.border.spectrum(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlation with h; what lies beyond the borders goes where it came from."""
        return self.border.spectrum_adjoint(self.transfer.conj() * self.border.image_adjoint(y))
