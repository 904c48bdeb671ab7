"""Split-conformal correction of an uncertainty, and how it does on scans or slices that it has not seen.

The scores are |reference - mean| / spread (Papadopoulos et al. 2002; Lei et al., JASA 2018), their quantiles those of
finite samples. Conformal prediction then promises coverage where the scores of a new voxel are exchangeable with the
learned ones. Voxels of an image are not: their errors are alike over regions, slices and scans. So each slice has
quantiles of its own; the median over its scan counts, then the median over scans, and how much slices differ is kept.
For a voxel of a new scan the promise would need level / (1 - level) scans or more, nine for 90 %, and then intervals
that are too wide (Dunn, Wasserman and Ramdas, JASA 2022); here there is none, only what was measured on what was left
out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.calibration.file import Calibration
from invdiff.calibration.scans import Scan, Slice
from invdiff.errors import ConfigError, ShapeError
from invdiff.metrics.calibration import LEVELS, of_errors, pooled
from invdiff.predictive import Law

Floats = NDArray[np.float64]
FLOOR = 0.002  # of the intensity unit: below nearly all voxels of a body, above the zeros of air
BLOCKS = 4  # of neighbouring slices, where there is one subject
NINETY = LEVELS.index(0.9)
WHEN = ("before", "after")


@dataclass(frozen=True)
class Check:
    """How mean and spread did, before and after a calibration; rows of `invdiff.metrics.calibration.of_errors`.

    Widths, spreads and CRPS are fractions of the intensity unit of each scan.

    Attributes:
        before, after: of all voxels.
        slices: coverage of the 90 % interval of each slice, before and after.
        scans: the same of each scan, with its name.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    slices: dict[str, list[float]]
    scans: list[dict[str, Any]]

    @property
    def most(self) -> tuple[float, float]:
        """Between which coverages of the 90 % interval eight in ten slices lie, after."""
        low, high = np.quantile(self.slices["after"], (0.1, 0.9))
        return float(low), float(high)


def learn(scans: Sequence[Scan], *, floor: float = FLOOR) -> tuple[Calibration, Check]:
    """The correction that makes intervals of these scans cover what they say, and how it does on what it has not seen.

    Subjects are left out in turn where there are several, else blocks of neighbouring slices, which is easier: all show
    the same person.

    Args:
        scans: all reconstructed in the same way.
        floor: least spread, as a fraction of the intensity unit, so that voxels in which samples agree to the last bit
            have an interval, too.

    Raises:
        ConfigError: scans that were reconstructed in different ways, or a slice that equals its reference.
        ShapeError: a single slice, of which none can be left out.
    """
    how = common(scans)
    rows = [(i, s) for i, scan in enumerate(scans) for s in scan.slices]
    groups, held_out = _groups(scans)
    base = Law.of(how["samples"], antithetic=how["antithetic"])
    factors = np.array([quantiles(s, floor) for _, s in rows]) / base.multiple(LEVELS)
    if not (factors[:, -1] > 0).all():
        raise ConfigError("a slice equals its reference: there is no error to learn from; give the truth")
    of = np.array([i for i, _ in rows])
    laws = {}
    for group in set(groups):
        kept = np.array(groups) != group
        laws[group] = base.widened(LEVELS, combined(factors[kept], of[kept]), floor)
    found = _held(scans, [(base, laws[group]) for group in groups])
    low, high = np.quantile(factors, (0.1, 0.9), axis=0)
    return Calibration(
        method=how,
        levels=LEVELS,
        factors=_short(combined(factors, of)),
        low=_short(low),
        high=_short(high),
        floor=floor,
        mask=" | ".join(dict.fromkeys(scan.mask for scan in scans)),
        scans=tuple({"name": s.name, "sha256": s.sha256} for s in scans),
        slices=len(rows),
        voxels=found.before["voxels"],
        before=_short(found.before["coverage"]),
        after=_short(found.after["coverage"]),
        held_out=held_out,
    ), found


def check(calibration: Calibration, scans: Sequence[Scan]) -> Check:
    """How a calibration does on further scans; before it, each has the law of its own samples."""
    laws = []
    for scan in scans:
        how = {"samples": scan.method["samples"], "antithetic": scan.method["antithetic"]}
        laws += [(Law.of(**how), calibration.law(**how))] * len(scan.slices)
    return _held(scans, laws)


def _held(scans: Sequence[Scan], laws: Sequence[tuple[Law, Law]]) -> Check:
    """Each slice of the scans held to its law before and after."""
    each = [s for scan in scans for s in scan.slices]
    rows = [[of_errors(s.error, s.std, law) for s, law in zip(each, of, strict=True)] for of in zip(*laws, strict=True)]
    slices = {when: [row["coverage"][NINETY] for row in found] for when, found in zip(WHEN, rows, strict=True)}
    by_scan, start = [], 0
    for scan in scans:
        end = start + len(scan.slices)
        covered = [pooled(found[start:end])["coverage"][NINETY] for found in rows]
        by_scan.append({"name": scan.name, **dict(zip(WHEN, covered, strict=True))})
        start = end
    return Check(pooled(rows[0]), pooled(rows[1]), slices, by_scan)


def _groups(scans: Sequence[Scan]) -> tuple[list[Any], str]:
    """What each slice is left out with, and that in words."""
    if len({scan.subject for scan in scans}) > 1:
        return [scan.subject for scan in scans for _ in scan.slices], "subjects"
    heights = [s.height for scan in scans for s in scan.slices]
    ranks = {height: rank for rank, height in enumerate(sorted(set(heights)))}
    if len(ranks) < 2:
        raise ShapeError("a calibration needs two slices or more with enough of the body, found 1; give a larger scan")
    return [ranks[height] * BLOCKS // len(ranks) for height in heights], "blocks of slices of one subject"


def quantiles(s: Slice, floor: float) -> Floats:
    """Of the scores of a slice, for each level the ceil((n + 1) level)-th smallest of its n voxels."""
    scores = np.sort(np.abs(s.error) / np.sqrt(s.std**2 + floor**2))
    n = len(scores)
    return np.array([scores[min(math.ceil((n + 1) * level), n) - 1] for level in LEVELS], np.float64)


def combined(factors: Floats, of: NDArray[np.int64]) -> Floats:
    """The median over scans of the medians over slices, (slices, levels) -> (levels,); `of`: the scan of each slice."""
    return np.median([np.median(factors[of == scan], axis=0) for scan in np.unique(of)], axis=0)


def common(scans: Sequence[Scan]) -> dict[str, Any]:
    """The method of all scans, without settings of the acquisition in which they differ.

    Raises:
        ConfigError: they differ in anything else.
    """
    first, how = scans[0], dict(scans[0].method)
    for other in scans[1:]:
        for key in first.method.keys() | other.method.keys():
            ours, theirs = first.method.get(key), other.method.get(key)
            if ours == theirs or (key == "prior" and first.method["prior_sha256"] == other.method["prior_sha256"]):
                continue
            if not key.startswith("acquisition."):
                told = f"{first.name} and {other.name} differ in {key} ({ours}, {theirs})"
                raise ConfigError(f"{told}; calibrate what was reconstructed in the same way")
            how.pop(key, None)
    return how


def _short(numbers: Sequence[float] | Floats) -> tuple[float, ...]:
    """Five digits, as the file has them."""
    return tuple(float(f"{x:.5g}") for x in numbers)
