"""Fourier samples off the grid by finufft (Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 2019)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import ConfigError

Backend = Literal["auto", "finufft", "gridding"]


class Plans:
    """Transforms by finufft with the origin at pixel n // 2; one plan per number of images and dtype, kept.

    A thread transforms one image at a time: threads that shared an image would add in any order, and a result could
    not be repeated bit for bit.
    """

    KEPT = 4

    def __init__(self, spatial: tuple[int, ...], trajectory: NDArray[np.float64], tolerance: float) -> None:
        self.spatial, self.tolerance = spatial, tolerance
        self.points = 2 * np.pi * trajectory / np.array(spatial)
        self.plans: dict[tuple[int, torch.dtype, int], Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) -> (B, C, samples)."""
        return self._run("execute", x, (len(self.points),))

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, C, samples) -> (B, C, *spatial)."""
        return self._run("execute_adjoint", y, self.spatial)

    def _run(self, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        images = x.flatten(0, 1).resolve_conj().to(self._precision(x.dtype))
        threads = max(1, min(torch.get_num_threads(), len(images)))
        extra = -len(images) % threads
        if extra:
            images = torch.cat([images, images.new_zeros(extra, *images.shape[1:])])
        out = images.new_empty(len(images), *shape)
        plan = self._plan(len(images), images.dtype, threads)
        # finufft wants no axis of length 1 in front of single images.
        one = (0,) if len(images) == 1 else ()
        getattr(plan, name)(images.contiguous().numpy()[one], out=out.numpy()[one])
        return out[: len(out) - extra].unflatten(0, x.shape[:2]).to(x.dtype)

    def _precision(self, dtype: torch.dtype) -> torch.dtype:
        """Double precision where float32, which rounds the trajectory by n times its own rounding, would not do."""
        return dtype if self.tolerance >= 1e-7 * max(self.spatial) else torch.complex128

    def _plan(self, count: int, dtype: torch.dtype, threads: int) -> Any:  # noqa: ANN401 - finufft is untyped
        key = (count, dtype, threads)
        if key not in self.plans:
            if len(self.plans) == self.KEPT:
                self.plans.pop(next(iter(self.plans)))
            self.plans[key] = self._make_plan(*key)
        return self.plans[key]

    def _make_plan(self, count: int, dtype: torch.dtype, threads: int) -> Any:  # noqa: ANN401 - as above
        import finufft

        single = dtype == torch.complex64
        tolerance = max(self.tolerance, 1e-7 if single else 1e-14)
        # The smaller finufft's grid, the faster, twice at the sizes of scans, and the more rounding is amplified: to
        # 3e-5 in float32 on a grid of 1.25 n, 3e-6 on 1.5 n.
        finer = 1.25 if tolerance >= (3e-5 if single else 1e-8) else 1.5 if single else 2.0
        options = {"upsampfac": finer, "nthreads": threads, "maxbatchsize": threads, "spread_thread": 2, "showwarn": 0}
        plan = finufft.Plan(2, self.spatial, count, tolerance, -1, "complex64" if single else "complex128", **options)
        plan.setpts(*np.ascontiguousarray(self.points.T, np.float32 if single else np.float64))
        return plan

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"plans": {}}  # plans are pointers; copies make their own


def available(backend: Backend) -> Literal["finufft", "gridding"]:
    """The backend that runs; ConfigError for finufft that is not installed."""
    if backend == "gridding":
        return backend
    try:
        import finufft  # noqa: F401
    except ImportError as e:
        if backend == "auto":
            return "gridding"
        raise ConfigError('the backend finufft is not installed; pip install "invdiff[mri]", or choose "auto"') from e
    return "finufft"
