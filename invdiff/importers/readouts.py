"""Readouts in the order of their measurement -> k-space: counters, averages, noise scans, for ISMRMRD and twix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import FileError, GeometryError
from invdiff.importers.place import Place


@dataclass(frozen=True, eq=False)
class Readout:
    """One line of k-space.

    Attributes:
        data: (coils, samples) complex64.
        centre: sample at DC.
        phase: counter of the phase encoding, from its own zero on.
        partition: that of the second phase encoding.
        slice: counter of slices.
        frame: counters of echoes, repetitions and the like: each combination is a frame.
        position: of the slice's centre in mm (LPS), (3,).
        directions: (3, 3), unit rows: readout, phase, slice.
    """

    data: NDArray[np.complex64]
    centre: int
    phase: int
    partition: int = 0
    slice: int = 0
    frame: tuple[int, ...] = ()
    position: NDArray[np.float64] | None = None
    directions: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Sorted:
    """K-space as `KSpace` wants it, and how many averages each line is the mean of."""

    samples: Tensor
    measured: Tensor
    averages: int


def sort(
    file: str, readouts: Sequence[Readout], sizes: tuple[int, int, int], centres: tuple[int | None, int | None]
) -> Sorted:
    """Put each readout at its place.

    Lines that were measured equally often are averaged; else the first measurement of each counts, so that the noise is
    as strong on all of them.

    Args:
        file: name for messages.
        readouts: in any order.
        sizes: encoded samples along readout, phase and partition.
        centres: counters of DC along phase and partition; None: the middle.

    Raises:
        FileError: no readouts, other numbers of coils, or lines outside the encoded matrix.
    """
    if not readouts:
        raise FileError(
            f"{file} holds no image data, only scans for noise, calibration or navigation; export the image scan"
        )
    coils = {r.data.shape[0] for r in readouts}
    if len(coils) > 1:
        raise FileError(f"{file} has readouts of {sorted(coils)} coils; export one scan per file")
    frames = _index(r.frame for r in readouts)
    slices = _index(r.slice for r in readouts)
    n, phases, partitions = sizes
    shape = (len(frames), len(slices), phases, partitions)
    total = np.zeros((*shape, coils.pop(), n), np.complex64)
    first, count = np.zeros_like(total), np.zeros(shape, int)
    dc = (_centre(centres[0], phases), _centre(centres[1], partitions))
    for r in readouts:
        at = (frames[r.frame], slices[r.slice], r.phase - dc[0] + phases // 2, r.partition - dc[1] + partitions // 2)
        columns = _columns(file, r, n)
        if not (0 <= at[2] < phases and 0 <= at[3] < partitions):
            raise FileError(
                f"{file}: line {r.phase} of partition {r.partition} lies outside the encoded matrix of {phases} x "
                f"{partitions} with DC at {dc}; correct the header"
            )
        if not count[at]:
            first[at][:, columns] = r.data
        total[at][:, columns] += r.data
        count[at] += 1
    often = np.unique(count[count > 0])
    averages = int(often[0]) if len(often) == 1 else 1
    with np.errstate(invalid="ignore"):  # samples that are not finite are found by KSpace
        chosen = total / averages if len(often) == 1 else first
    # frames, slices, phase, partition, coils, readout -> frames, slices, coils, readout, phase, partition
    samples = torch.from_numpy(chosen.transpose(0, 1, 4, 5, 2, 3).copy())
    return Sorted(samples, torch.from_numpy(count > 0), averages)


def place(readouts: Sequence[Readout]) -> Place | None:
    """Where the slices lie, one position for each counter in order; None where the file does not tell.

    Raises:
        GeometryError: slices in several orientations.
    """
    firsts = {r.slice: r for r in reversed(readouts)}
    ordered = [firsts[s] for s in sorted(firsts)]
    if any(r.position is None or r.directions is None for r in ordered):
        return None
    directions = [np.asarray(r.directions) for r in ordered]
    lengths = np.linalg.norm(directions, axis=-1)
    if np.abs(lengths - 1).max() > 1e-3:
        return None
    turned = np.abs(np.asarray(directions) - directions[0]).max((1, 2)) > 1e-3
    if turned.any():
        k = int(turned.argmax())
        raise GeometryError(
            f"slice {k} has normal {np.round(directions[k][2], 3).tolist()} and phase direction "
            f"{np.round(directions[k][1], 3).tolist()}, slice 0 others: a localiser? export one orientation per file"
        )
    read, phase, normal = directions[0]
    return Place(phase, read, normal, np.array([r.position for r in ordered], np.float64))


def noise_scan(readouts: Sequence[NDArray[np.complex64]], scale: float, coils: int) -> Tensor | None:
    """Noise readouts (coils, samples) as one scan (n, coils), scaled to the noise of the image's samples.

    Those of another number of coils belong to another scan; None where no other is left.
    """
    own = [r for r in readouts if len(r) == coils]
    return torch.from_numpy(np.concatenate(own, axis=1).T * np.float32(scale)) if own else None


def noise_scale(dwell_noise: float, dwell_image: float, bandwidth: float, averages: int) -> float:
    """Standard deviation of the noise on image samples over that on noise samples (Kellman and McVeigh, MRM 2005).

    Args:
        dwell_noise: sampling time of the noise scan, any unit; 0 where unknown.
        dwell_image: that of the image scan.
        bandwidth: noise-equivalent bandwidth of the receiver during the noise scan, relative to its sampling rate.
        averages: measurements that each line is the mean of.
    """
    ratio = dwell_noise / dwell_image if dwell_noise > 0 and dwell_image > 0 else 1.0
    return float((ratio / bandwidth / averages) ** 0.5)


def _index(values: object) -> dict:  # type: ignore[type-arg]
    return {value: i for i, value in enumerate(sorted(set(values)))}  # type: ignore[call-overload]


def _centre(counter: int | None, n: int) -> int:
    return n // 2 if counter is None else counter


def _columns(file: str, r: Readout, n: int) -> slice:
    """Where the samples of a readout go: its DC to n // 2."""
    start = n // 2 - r.centre
    stop = start + r.data.shape[1]
    if start < 0 or stop > n:
        raise FileError(
            f"{file}: a readout of {r.data.shape[1]} samples with DC at {r.centre} does not fit {n} encoded samples; "
            "correct the header"
        )
    return slice(start, stop)
