"""Randomness that is handed in: one stream per sample seed, the same numbers at any batch size, order or worker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by a hash of `key`, e.g. `generator(seed, "train", step)`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Rng:
    """Independent normal streams, one for each row of a batch.

    Nothing is shared and nothing is advanced: a draw depends on (seed, name, step, index) only, so there is no state
    to checkpoint and a sample owes nothing to its neighbours.

    Args:
        streams: one (sample seed, problem index) per row.
        antithetic: an odd seed draws the negative of what the even seed before it draws. Each sample keeps its law
            and still depends on its own seed alone; the errors of a pair largely cancel in a mean.
    """

    def __init__(self, streams: Sequence[tuple[int, int]] = ((0, 0),), *, antithetic: bool = False) -> None:
        self.streams = tuple((int(seed), int(index)) for seed, index in streams)
        self.antithetic = antithetic

    def __len__(self) -> int:
        return len(self.streams)

    def normal(self, name: str, step: int, like: Tensor) -> Tensor:
        """Standard normal numbers shaped, typed and placed like `like`, (rows, *shape).

        Complex numbers have unit variance per real component.

        Raises:
            ValueError: when `like` has another number of rows than this generator.
        """
        self._check(like)
        reals = torch.view_as_real(like) if like.is_complex() else like
        out = torch.empty(reals.shape, dtype=reals.dtype)
        for row, (seed, index) in zip(out, self.streams, strict=True):
            source = seed - seed % 2 if self.antithetic else seed
            row.normal_(generator=generator(source, name, step, index))
            if source != seed:
                row.neg_()
        return (torch.view_as_complex(out) if like.is_complex() else out).to(like.device)

    def poisson(self, name: str, step: int, rate: Tensor) -> Tensor:
        """Counts of the rates, (rows, *shape), real and >= 0; typed and placed like them. Never antithetic.

        Raises:
            ValueError: when `rate` has another number of rows than this generator.
        """
        self._check(rate)
        rows = zip(rate.double().cpu(), self.streams, strict=True)
        counts = [torch.poisson(row, generator=generator(seed, name, step, index)) for row, (seed, index) in rows]
        return torch.stack(counts).to(rate)

    def _check(self, like: Tensor) -> None:
        if len(like) != len(self):
            raise ValueError(f"Rng has {len(self)} streams, the batch has {len(like)} rows; give one stream a row")


class SharedRng(Rng):
    """Normal streams for volumes whose slices have a part of their noise in common, so that they err alike.

    Each number is standard normal as before; two slices have correlation `share`.

    Args:
        streams, antithetic: as of `Rng`.
        axis: of the volume that counts the slices: 0, 1 or 2.
        share: of the variance, 0 to 1.
    """

    def __init__(
        self, streams: Sequence[tuple[int, int]] = ((0, 0),), *, antithetic: bool = False, axis: int, share: float
    ) -> None:
        super().__init__(streams, antithetic=antithetic)
        self.axis, self.share = 2 + axis, share

    def normal(self, name: str, step: int, like: Tensor) -> Tensor:
        """As of `Rng`, for volumes (rows, C, X, Y, Z)."""
        own = super().normal(name, step, like)
        common = super().normal(f"{name}, shared", step, like.narrow(self.axis, 0, 1))
        return (1 - self.share) ** 0.5 * own + self.share**0.5 * common
