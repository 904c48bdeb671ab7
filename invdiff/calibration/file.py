"""A calibration as a small JSON file: what was learned, from what, and for which way of reconstructing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.errors import FileError
from invdiff.files import refuse_existing, write_atomic
from invdiff.metrics.calibration import LEVELS
from invdiff.predictive import Law

FORMAT = "invdiff calibration"
VERSION = 1
LISTED = 40  # scans at most, so that the file stays below 10 kB


@dataclass(frozen=True)
class Calibration:
    """Intervals as wide as they must be.

    Attributes:
        method: how the scans were reconstructed: `invdiff.calibration.scans.method`.
        levels: of central intervals, `invdiff.metrics.calibration.LEVELS`.
        factors: how much wider the interval of each level must be than `Law.of` says: 1 where mean and std are right.
        low, high: the 10th and 90th percentile of the factors that single slices would need.
        floor: least spread, as a fraction of the intensity unit.
        mask: the rule by which voxels counted.
        scans: `name` and `sha256` of the truths, 40 at most.
        slices, voxels: how many there were.
        before, after: coverage of the levels on what was left out.
        held_out: what was left out in turn.
    """

    method: dict[str, Any]
    levels: tuple[float, ...]
    factors: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    floor: float
    mask: str
    scans: tuple[dict[str, str], ...]
    slices: int
    voxels: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    held_out: str

    def law(self, samples: int, *, antithetic: bool, unit: float = 1.0) -> Law:
        """The law of `Law.of`, calibrated; `unit` is the intensity unit of the run."""
        return Law.of(samples, antithetic=antithetic).widened(self.levels, self.factors, self.floor * unit)

    def differences(self, theirs: dict[str, Any]) -> list[str]:
        """In what another `method` differs from that of the scans learned from: `samples 8, here 4`."""
        ours, out = self.method, []
        for key, value in ours.items():
            group, _, setting = key.partition(".")
            if value == theirs.get(key) or key == "prior" or (setting and ours[group] != theirs[group]):
                continue
            if key == "prior_sha256":
                out.append(f"prior {ours['prior']} ({str(value)[:8]}), here {theirs['prior']} ({str(theirs[key])[:8]})")
            else:
                out.append(f"{key} {value}, here {theirs.get(key)}")
        return out


def save(path: Path, calibration: Calibration, *, force: bool = False) -> None:
    """Write it, atomically; raises ConfigError when the file exists and `force` is off."""
    refuse_existing([path], force=force)
    content = {"format": FORMAT, "version": VERSION, **asdict(calibration), "intended_use": "research only"}
    content |= {"scans": calibration.scans[:LISTED], "scans_not_listed": max(0, len(calibration.scans) - LISTED)}
    content["checksum"] = _checksum(content)

    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps(content, indent=1) + "\n")

    write_atomic(path, write)


def load(path: Path) -> Calibration:
    """Read it.

    Raises:
        FileError: missing, no calibration, of another version, damaged or changed by hand.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}; make a calibration with `invdiff calibrate`") from e
    except ValueError as e:
        raise FileError(f"{path} is no JSON, perhaps truncated; make it again with `invdiff calibrate`") from e
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path} is no invdiff calibration; make one with `invdiff calibrate`")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise FileError(f"{path} has version {found}, this invdiff reads version {VERSION}; calibrate again")
    if content.pop("checksum", None) != _checksum(content):
        raise FileError(f"{path} is damaged or was changed by hand (checksum differs); calibrate again")
    fields = {k: content.get(k) for k in Calibration.__dataclass_fields__}
    calibration = Calibration(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})  # type: ignore[arg-type]
    if not _sound(calibration):
        raise FileError(f"{path} contradicts itself: levels, factors and floor are not those of intervals")
    return calibration


def _sound(c: Calibration) -> bool:
    """Whether wider levels have wider intervals, finite and above zero."""
    try:
        if c.levels != LEVELS or not len(c.factors) == len(c.low) == len(c.high) == len(LEVELS):
            return False
        widths = c.law(c.method["samples"], antithetic=c.method["antithetic"]).multiple(LEVELS)
        return bool(np.isfinite(widths).all() and (np.diff(widths) >= 0).all() and widths[-1] > 0 and c.floor >= 0)
    except (TypeError, ValueError, KeyError, IndexError):
        return False


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
