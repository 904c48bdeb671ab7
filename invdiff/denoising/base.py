"""What is denoised, and by what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import ConfigError
from invdiff.volumes.gradients import Gradients

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Series:
    """A diffusion series.

    Attributes:
        data: (X, Y, Z, V), in the units of the scan.
        gradients: its table.
        mask: where there is tissue, (X, Y, Z).
        sigma: standard deviation of the noise, (X, Y, Z), in the units of the scan.
        components: what MP-PCA, which finds sigma, leaves of the data, (X, Y, Z, V).
    """

    data: Floats
    gradients: Gradients
    mask: NDArray[np.bool_]
    sigma: Floats
    components: Floats

    @property
    def level(self) -> float:
        """The noise inside the mask: the median of its map."""
        return float(np.median(self.sigma[self.mask]))


@dataclass(frozen=True)
class Run:
    """How a method that takes long is run.

    Attributes:
        checkpoint: file from which the same run goes on; None keeps nothing.
        every: seconds between two checkpoints.
        device: where networks run: auto, cpu, cuda.
        facts: of the input, so that another one's checkpoint is refused.
        expect: told how many steps there will be; tick: called once a step.
    """

    checkpoint: Path | None = None
    every: float = 120.0
    device: str = "auto"
    facts: dict[str, Any] = field(default_factory=dict)
    expect: Callable[[int], None] = lambda _: None
    tick: Callable[[object], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Denoiser(ABC):
    """A method for series; settings are its fields."""

    paper: ClassVar[str] = ""
    fewest: ClassVar[int] = 2

    @abstractmethod
    def denoise(self, series: Series, run: Run) -> Floats:
        """All volumes denoised, (X, Y, Z, V) in the units of the scan."""

    def check(self, series: Series) -> None:
        """Raise ConfigError for a series that is too short for the method."""
        volumes = series.data.shape[-1]
        if volumes < self.fewest:
            raise ConfigError(
                f"{type(self).__name__} needs {self.fewest} volumes or more, the series has {volumes}; "
                "take another --method"
            )
