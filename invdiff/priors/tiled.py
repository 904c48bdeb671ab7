"""A prior of small images as a prior of large ones: windows, overlapping or shifted at each level."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.priors.base import Prior
from invdiff.rng import Rng, generator
from invdiff.space import Space

Taper = Literal["hann", "uniform"]


class TiledPrior(Prior):
    """Windows of the prior's own size over a larger image, and the mean of what each says of a voxel.

    Args:
        prior: of one window, (C, *window).
        space: of the image, (C, *spatial), no smaller than a window along any axis.
        overlap: voxels shared by neighbouring windows along each axis, 0 or more, less than a window.
        taper: hann: a window counts most in its middle (MultiDiffusion, Bar-Tal et al., ICML 2023); uniform: alike.
        shifts: without overlap, but moved at random from level to level, around the border (SpotDiffusion, Frolov et
            al., 2024): the cost of one cover, and seams that no two levels share.

    Raises:
        ConfigError: an image smaller than a window, another number of channels or axes, an overlap out of range.
    """

    def __init__(
        self, prior: Prior, space: Space, *, overlap: int = 16, taper: Taper = "hann", shifts: bool = False
    ) -> None:
        super().__init__()
        window, sizes = prior.space.shape[1:], space.shape[1:]
        if len(window) != len(sizes) or prior.space.shape[0] != space.shape[0]:
            raise ConfigError(f"windows of {prior.space} do not tile {space}: other axes or channels")
        if any(n < w for n, w in zip(sizes, window, strict=True)):
            raise ConfigError(f"{space} is smaller than a window, {prior.space}; use the prior as it is")
        overlap = 0 if shifts else overlap
        if not 0 <= overlap < min(window):
            raise ConfigError(f"windows of {prior.space} overlap by 0 to {min(window) - 1} voxels, got {overlap}")
        self.prior, self.space, self.shifts, self.shift = prior, space, shifts, (0,) * len(sizes)
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max
        step = [w - overlap for w in window]
        self.corners = torch.cartesian_prod(*map(_starts, sizes, window, step)).reshape(-1, len(sizes)).tolist()
        self.weight: Tensor
        self.register_buffer("weight", _weight(window, "uniform" if shifts else taper).to(space.dtype))

    @property
    def calls(self) -> int:
        """Network calls so far."""
        return getattr(self.prior, "calls", 0)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Mean of the windows' own means."""
        return self.prior.mean.mean()

    @property
    def std(self) -> Tensor:  # type: ignore[override]
        """Root mean square of the windows' own."""
        return self.prior.std.square().mean().sqrt()

    def at(self, step: int, rng: Rng) -> Prior:
        """With `shifts`, the windows moved by as much as this level says."""
        if not self.shifts:
            return self
        del rng  # one shift for all samples: it is where the windows lie, not what is drawn
        twin = TiledPrior.__new__(TiledPrior)
        twin.__dict__.update(self.__dict__)
        g = generator("tiles", step)
        twin.shift = tuple(int(torch.randint(n, (), generator=g)) for n in self.space.shape[1:])
        return twin

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Each window denoised, all in one call; the weighted mean where they overlap."""
        axes = tuple(range(2, x.ndim))
        x = torch.roll(x, self.shift, axes) if any(self.shift) else x
        tiles = torch.cat([x[self._window(c)] for c in self.corners])
        answers = self.prior.denoise(tiles, sigma.repeat(len(self.corners))).split(len(x))
        out, total = torch.zeros_like(x), x.new_zeros(x.shape[2:])
        for corner, answer in zip(self.corners, answers, strict=True):
            where = self._window(corner)
            out[where] = out[where] + self.weight * answer
            total[where[2:]] += self.weight
        out = out / total
        return torch.roll(out, tuple(-n for n in self.shift), axes) if any(self.shift) else out

    def _window(self, corner: list[int]) -> tuple[slice, ...]:
        sides = zip(corner, self.prior.space.shape[1:], strict=True)
        return (slice(None), slice(None), *(slice(i, i + w) for i, w in sides))


def _starts(n: int, window: int, step: int) -> Tensor:
    """First voxels of windows that cover n, evenly spread."""
    count = 1 + max(0, -(-(n - window) // step))
    return torch.linspace(0, n - window, count, dtype=torch.float64).round().long()


def _weight(window: tuple[int, ...] | torch.Size, taper: Taper) -> Tensor:
    """Of the voxels of a window, above 0 everywhere, (*window)."""
    out = torch.ones(tuple(window), dtype=torch.float64)
    for axis, n in enumerate(window if taper == "hann" else ()):
        along = torch.hann_window(n + 2, periodic=False, dtype=torch.float64)[1:-1]
        out = out * along.reshape(-1, *[1] * (len(window) - 1 - axis))
    return out
