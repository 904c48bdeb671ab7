"""What a reconstruction takes of memory and time, and how its network is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from invdiff.memory import MIB

RESERVE = 1.1  # the prediction is good to a tenth or so


@dataclass(frozen=True)
class Way:
    """How the network is called.

    Attributes:
        width: problems per chunk: slices, or volumes.
        slices: of a volume in one network call.
        dtype: precision of the network: auto, float32 or bfloat16.
        window: side of the windows that it sees one by one, in voxels; None for whole slices.
    """

    width: int
    slices: int
    dtype: str
    window: int | None = None


@dataclass(frozen=True)
class Stage:
    """A part of the run: bytes that it takes at most, and seconds where they were measured."""

    name: str
    bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """What a reconstruction will take.

    Attributes:
        way: how the network is called.
        peak: bytes that the process will hold at most; None where a rehearsal ended at the budget.
        budget: bytes that it may hold.
        ended: whether memory ran out below the budget.
        asked: whether that was asked for; else it is what is free.
        measured: whether network calls were measured at full width.
        chunks: how often the solver runs.
        calls: of the network, forward, for all samples.
        stages: parts of the run.
    """

    way: Way
    peak: int | None
    budget: int
    asked: bool
    measured: bool = False
    ended: bool = False
    chunks: int = 0
    calls: int = 0
    stages: list[Stage] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """With a tenth to spare."""
        return self.peak is not None and RESERVE * self.peak <= self.budget

    @property
    def seconds(self) -> float | None:
        """Of the whole run, where they were measured."""
        return None if any(s.seconds is None for s in self.stages) else sum(s.seconds or 0 for s in self.stages)

    def facts(self) -> dict[str, Any]:
        """For a sidecar: what was predicted, and what was chosen."""
        told = {"predicted_mib": round((self.peak or 0) / MIB), "available_mib": round(self.budget / MIB)}
        return told | {"asked": self.asked, "measured": self.measured} | asdict(self.way)


@dataclass(frozen=True)
class Memory:
    """What a run may take, and who wants to know before it starts.

    Attributes:
        gb: GiB that the process may hold at most, of a GPU its tensors; None: what is free.
        timed: measure seconds, too.
        told: called with the plan before anything is solved.
    """

    gb: float | None = None
    timed: bool = False
    told: Callable[[Plan], None] | None = None


def told(way: Way, *, volumes: bool) -> str:
    """A way in words."""
    count = way.slices if volumes else way.width
    windows = f", windows of {way.window} x {way.window} voxels" if way.window else ""
    return f"{count} slice{'s' * (count != 1)} per network call, {way.dtype}{windows}"
