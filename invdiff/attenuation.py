"""Hounsfield units and linear attenuation coefficients."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from invdiff.errors import ConfigError

MU_WATER = 0.0192
"""Linear attenuation of water in 1/mm at about 70 keV, the mean energy of a 120 kV beam behind a patient.

Between the 0.2059 and 0.1837 cm^2/g that NIST (Hubbell and Seltzer, NISTIR 5632) tabulates at 60 and 80 keV.
"""

T = TypeVar("T", float, Tensor)


def attenuation(hu: T, mu_water: float = MU_WATER) -> T:
    """mu = mu_water (1 + HU / 1000) in 1/mm; below air it is negative, as the numbers of a scanner may be.

    Raises:
        ConfigError: mu_water that is not positive.
    """
    _check(mu_water)
    return mu_water * (1 + hu / 1000)


def hounsfield(mu: T, mu_water: float = MU_WATER) -> T:
    """HU = 1000 (mu / mu_water - 1), from 1/mm; raises as `attenuation`."""
    _check(mu_water)
    return 1000 * (mu / mu_water - 1)


def _check(mu_water: float) -> None:
    if not 0 < mu_water < float("inf"):
        raise ConfigError(f"the attenuation of water is a finite number > 0 in 1/mm, got {mu_water:g}")
