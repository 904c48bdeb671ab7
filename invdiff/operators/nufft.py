"""Fourier samples anywhere: radial, spiral and other non-Cartesian k-space."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.linalg import each_row
from invdiff.operators.base import LinearOperator
from invdiff.operators.gridding import Gridding, density
from invdiff.operators.plans import Backend, Plans, available
from invdiff.operators.sparse import linear
from invdiff.space import Space


class NUFFT(LinearOperator):
    """y(k) = sum_j x_j exp(-2 pi i k j / n) / sqrt(n1 n2 ...), image index j = 0 at the corner, k anywhere.

    On whole numbers k it is `FFT`, whose entry k modulo n it gives. A sequence whose origin is the middle of the
    image, pixel n // 2, measures the same numbers times exp(2 pi i k (n // 2) / n): multiply by the conjugate.

    Args:
        space: complex images, (C, *spatial) in 2-D or 3-D; channels are transformed one by one.
        trajectory: (samples, axes), in cycles per field of view, within the unit cell [-n / 2, n / 2] of each axis.
        weights: density compensation of `direct`, (samples,), up to a factor; by default after Pipe and Menon (1999).
        backend: finufft (Barnett et al., SIAM J. Sci. Comput. 2019; on CPUs), gridding, which needs no other
            library, or auto: finufft where it is installed and the images are on a CPU.
        tolerance: relative error. In float32 finufft rounds the trajectory too: an error of about 7e-8 n.
        toeplitz: A^H A by one pair of FFTs of twice the size (Fessler et al., IEEE TSP 2005) instead of A, then A^H.
            Faster for few coils and many samples; differs from A^H A by about the tolerance, so that eigenvalues that
            are 0 may come out a little below 0: regularise, or stop conjugate gradients early.

    The range is (C, samples).

    Raises:
        ConfigError: real images; a trajectory that is not finite or leaves the unit cell; negative weights; a tolerance
            out of range; finufft asked for and not installed, or for images that are not on a CPU.
        ShapeError: images, trajectory or weights of another shape.
    """

    phase: Tensor
    weights: Tensor | None
    transfer: Tensor | None

    def __init__(
        self,
        space: Space,
        trajectory: Tensor | NDArray[Any],
        weights: Tensor | NDArray[Any] | None = None,
        *,
        backend: Backend = "auto",
        tolerance: float = 1e-6,
        toeplitz: bool = False,
    ) -> None:
        super().__init__()
        self.trajectory = _checked(space, trajectory)
        if not 1e-14 <= tolerance <= 0.1:
            raise ConfigError(f"the tolerance of a NUFFT lies between 1e-14 and 0.1, got {tolerance:g}")
        self.domain, self.range = space, Space((space.shape[0], len(self.trajectory)), space.dtype)
        self.backend, self.tolerance, self.toeplitz = available(backend), tolerance, toeplitz
        self._only_cpu = backend == "finufft"
        sizes = np.array(space.shape[1:])
        turns = self.trajectory @ (sizes // 2 / sizes)
        # Both backends have the origin at pixel n // 2.
        phase = np.exp(-2j * np.pi * turns) / math.sqrt(sizes.prod())
        self.register_buffer("phase", torch.from_numpy(phase).to(space.dtype))
        self.register_buffer("weights", None if weights is None else self._scaled(_positive(weights, len(phase))))
        self.register_buffer("transfer", None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) -> (B, C, samples)."""
        return linear(self._sample, self._spread, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, samples) -> (B, C, *spatial)."""
        return linear(self._spread, self._sample, y)

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x."""
        if not self.toeplitz:
            return self.adjoint(self(x))
        if self.transfer is None:
            self.transfer = self._transfer().to(x.device)
        axes = tuple(range(2, x.ndim))
        sizes = x.shape[2:]
        spectrum = torch.fft.fftn(x, s=[2 * n for n in sizes], dim=axes) * self.transfer
        return torch.fft.ifftn(spectrum, dim=axes)[(..., *(slice(n) for n in sizes))].contiguous()

    def direct(self, y: Tensor) -> Tensor:
        """Gridding: A^H of the samples times their density weights; a constant image keeps its mean."""
        if self.weights is None:
            self.weights = self._scaled(density(self.trajectory, self.domain.shape[1:]))
        return self.adjoint(self.weights * y)

    def _sample(self, x: Tensor) -> Tensor:
        return _turned(self._engine(x).forward(x), self.phase)

    def _spread(self, y: Tensor) -> Tensor:
        return self._engine(y).adjoint(_turned(y, self.phase.conj()))

    def _engine(self, like: Tensor) -> Plans | Gridding:
        on_cpu = like.device.type == "cpu"
        if self._only_cpu and not on_cpu:
            raise ConfigError(f'finufft works on the CPU, the images are on {like.device}; choose backend "auto"')
        return self._plans if self.backend == "finufft" and on_cpu else self._gridding.to(like.device)

    @cached_property
    def _plans(self) -> Plans:
        return Plans(self.domain.shape[1:], self.trajectory, self.tolerance)

    @cached_property
    def _gridding(self) -> Gridding:
        return Gridding(self.domain, self.trajectory, self.tolerance)

    def _scaled(self, weights: NDArray[np.float64]) -> Tensor:
        """Weights times c such that the image 1 comes back with mean 1: c <A 1, W A 1> = n1 n2 ..."""
        w = torch.from_numpy(weights).to(self.phase.device, self.domain.dtype.to_real())
        y = self(torch.ones(1, 1, *self.domain.shape[1:], dtype=self.domain.dtype, device=self.phase.device))
        return w * (math.prod(self.domain.shape[1:]) / float((w * y.abs().square()).sum()))

    def _transfer(self) -> Tensor:
        """Eigenvalues of A^H A embedded in a periodic convolution of twice the size."""
        sizes = self.domain.shape[1:]
        twice = Space((1, *(2 * n for n in sizes)), self.domain.dtype)
        A = NUFFT(twice, 2 * self.trajectory, backend=self.backend, tolerance=self.tolerance)
        lag = torch.from_numpy(np.exp(-2j * np.pi * self.trajectory.sum(1))).to(twice.dtype)  # starts at lag -n
        kernel = A.adjoint(lag[None, None])[0, 0] * (math.prod(twice.shape) ** 0.5 / math.prod(sizes))
        # Lag -n is not needed; without the imaginary part its mean with lag n is kept, and A^H A stays symmetric.
        return torch.fft.fftn(torch.fft.ifftshift(kernel)).real


def _turned(y: Tensor, phase: Tensor) -> Tensor:
    """Their product, row by row: torch's complex one rounds by where a number lies in memory, so by row."""
    return each_row(lambda row: row * phase, y)


def _checked(space: Space, trajectory: Tensor | NDArray[Any]) -> NDArray[np.float64]:
    """The trajectory as a float64 array, or the reason why it cannot be one of these images."""
    if not space.dtype.is_complex:
        raise ConfigError(f"NUFFT needs complex images, found {space}; put RealImage to its right")
    k = torch.as_tensor(trajectory).detach().cpu().numpy()
    spatial = space.shape[1:]
    if len(spatial) not in (2, 3) or k.ndim != 2 or k.shape[1] != len(spatial) or not len(k):
        found = "x".join(map(str, k.shape))
        raise ShapeError(
            f"a trajectory of {found} does not fit images of {space}: it must be (samples, 2) for (C, H, W), or "
            "(samples, 3) for (C, X, Y, Z)"
        )
    if np.iscomplexobj(k) or not np.isfinite(k).all():
        raise ConfigError("the trajectory holds numbers that are not finite and real; give cycles per field of view")
    k = k.astype(np.float64)
    excess = np.abs(k).max(0) / (np.array(spatial) / 2)
    axis = int(excess.argmax())
    if excess[axis] > 1 + 1e-6:  # what rounding to float32 may add
        largest, n = np.abs(k[:, axis]).max(), spatial[axis]
        raise ConfigError(
            f"the trajectory reaches {largest:g} along axis {axis}, beyond the unit cell: {n / 2:g} for {n} pixels; "
            f"give cycles per field of view (radians per pixel times {n} / 2 pi), or divide by {excess[axis]:.6g}"
        )
    return k


def _positive(weights: Tensor | NDArray[Any], samples: int) -> NDArray[np.float64]:
    w = torch.as_tensor(weights).detach().cpu().numpy().astype(np.float64)
    if w.shape != (samples,):
        raise ShapeError(f"density weights of shape {w.shape} do not fit {samples} samples: one for each sample")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ConfigError("density weights must be finite, not negative and not all zero")
    return w
