"""Mean and standard deviation of what comes one after the other (Welford, Technometrics 1962)."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Of tensors of one shape, none of which is kept.

    Args:
        spread: whether the standard deviation is asked for.
    """

    def __init__(self, *, spread: bool = True) -> None:
        self.count, self.spread = 0, spread
        self.mean = self.squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take one more into account."""
        self.count += 1
        if self.count == 1:
            self.mean = x
            return
        change = x - self.mean
        self.mean = self.mean.add(change, alpha=1 / self.count)
        if self.spread:
            self.squares = self.squares + change.mul_(x - self.mean)

    @property
    def std(self) -> Tensor:
        """Divided by count - 1; of two or more."""
        return (self.squares / (self.count - 1)).sqrt()
