"""Noise tables: which label a network of the DDPM kind was trained with at each noise level s = b / a.

A schedule is a name, and settings where they differ from the usual: "linear", "cosine:steps=4000,rescaled=1",
"scaled_linear:beta_min=0.0005,beta_max=0.0195".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import PriorError


@dataclass(frozen=True)
class Discrete:
    """A table of noise levels.

    Attributes:
        levels: s of each index, ascending, (steps,) float64.
        unit: what labels count an index as: 1, or 1000 / steps where they are rescaled.
    """

    levels: Tensor
    unit: float = 1.0

    def label(self, sigma: Tensor) -> Tensor:
        """The index of each noise level (B,), linear in log s in between; levels outside take the nearest end."""
        wide = _wide(sigma)
        table = self.levels.log().to(wide)
        level = wide.log().clamp(table[0], table[-1]).contiguous()
        right = torch.searchsorted(table, level).clamp(1, len(table) - 1)
        low, high = table[right - 1], table[right]
        return ((right - 1 + (level - low) / (high - low)) * self.unit).to(sigma.dtype)

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest noise level."""
        return float(self.levels[0]), float(self.levels[-1])


@dataclass(frozen=True)
class Continuous:
    """The variance-preserving SDE (Song et al. 2021), s^2 = exp(beta_min t + (beta_max - beta_min) t^2 / 2) - 1."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def label(self, sigma: Tensor) -> Tensor:
        """999 t of each noise level (B,)."""
        slope = self.beta_max - self.beta_min
        log = torch.log1p(_wide(sigma) ** 2)
        # The root of the quadratic, in the form that does not cancel at small s.
        label = 999 * 2 * log / (torch.sqrt(self.beta_min**2 + 2 * slope * log) + self.beta_min)
        return label.to(sigma.dtype)

    @property
    def ends(self) -> tuple[float, float]:
        """Noise levels at t = 1e-5, where training began, and t = 1."""
        low, high = (self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2 for t in (1e-5, 1.0))
        return math.sqrt(math.expm1(low)), math.sqrt(math.expm1(high))


def _wide(sigma: Tensor) -> Tensor:
    """In float64, where the device has it: neighbouring levels differ by half a percent, labels are told to 1e-5."""
    return sigma if sigma.device.type == "mps" else sigma.double()


def _discrete(betas: Tensor, rescaled: float) -> Discrete:
    kept = torch.cumprod(1 - betas, 0)
    return Discrete(((1 - kept) / kept).sqrt(), 1000 / len(betas) if rescaled else 1.0)


def linear(steps: float = 1000, beta_min: float = 1e-4, beta_max: float = 2e-2, rescaled: float = 0) -> Discrete:
    """Equal steps of beta (Ho et al. 2020)."""
    return _discrete(torch.linspace(beta_min, beta_max, int(steps), dtype=torch.float64), rescaled)


def scaled_linear(
    steps: float = 1000, beta_min: float = 8.5e-4, beta_max: float = 1.2e-2, rescaled: float = 0
) -> Discrete:
    """Equal steps of sqrt(beta) (Rombach et al. 2022)."""
    return _discrete(torch.linspace(beta_min**0.5, beta_max**0.5, int(steps), dtype=torch.float64) ** 2, rescaled)


def cosine(steps: float = 1000, rescaled: float = 0) -> Discrete:
    """A cosine of the signal kept (Nichol and Dhariwal 2021); betas at most 0.999."""
    t = torch.arange(int(steps) + 1, dtype=torch.float64) / int(steps)
    kept = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    return _discrete((1 - kept[1:] / kept[:-1]).clamp(max=0.999), rescaled)


TABLES: dict[str, Callable[..., Discrete | Continuous]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "continuous": Continuous,
}


def table(schedule: str) -> Discrete | Continuous:
    """The table that a card's `schedule` names.

    Raises:
        PriorError: unknown name or setting.
    """
    name, _, settings = schedule.partition(":")
    if name not in TABLES:
        raise PriorError(f"schedule {name!r} is unknown; there are: {', '.join(TABLES)}")
    try:
        pairs = [pair.split("=") for pair in settings.split(",") if pair]
        return TABLES[name](**{key: float(value) for key, value in pairs})
    except (TypeError, ValueError) as e:
        raise PriorError(f"schedule {schedule!r}: {e}; write it like 'linear:steps=4000,beta_max=0.02'") from e
