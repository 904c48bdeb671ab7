"""The ways in which a network and a volume can be understood: the card's own, and the mistakes that people make."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invdiff.networks import Network
from invdiff.priors.checkpoints import Card, units
from invdiff.priors.network import NetworkPrior
from invdiff.priors.parameterisation import ADAPTERS
from invdiff.priors.scaling import Units, percentile, quantile
from invdiff.priors.tables import TABLES
from invdiff.space import Space

RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
TURNS = {
    (False, (-2,)): "the rows reversed",
    (False, (-1,)): "the columns reversed",
    (False, (-2, -1)): "the slices turned by 180 degrees",
    (True, ()): "rows and columns swapped",
    (True, (-2,)): "rows and columns swapped and the rows reversed",
    (True, (-1,)): "rows and columns swapped and the columns reversed",
    (True, (-2, -1)): "rows and columns swapped and the slices turned by 180 degrees",
}


@dataclass(frozen=True)
class Reading:
    """One way to bring slices to a network and its answer back.

    Attributes:
        low, high: stored values that become the ends of `range`.
        range: the network's numbers for these two.
        parameterisation, schedule: what the network predicts, and the noise table of its labels.
        transpose, flips: how slices are turned before the network sees them.
        order: which channel of the image is the network's first, second.
    """

    low: float
    high: float
    range: tuple[float, float]
    parameterisation: str
    schedule: str
    transpose: bool = False
    flips: tuple[int, ...] = ()
    order: tuple[int, ...] = (0,)

    def denoise(self, net: Network, card: Card, x: Tensor, sigma: float) -> Tensor:
        """The clean estimate of slices (B, C, H, W) with noise `sigma`, both in stored units."""
        scale = Units(range=self.range).between(self.low, self.high)
        turned = x[:, list(self.order)].mT if self.transpose else x[:, list(self.order)]
        u = (turned.flip(self.flips) - scale.offset) / scale.unit
        prior = NetworkPrior(
            net, Space(tuple(u.shape[1:])), mean=card.mean, std=card.std, width=len(u),
            parameterisation=self.parameterisation, schedule=self.schedule,
        )  # fmt: skip
        with torch.no_grad():
            clean = scale.decode(prior.denoise(u, torch.full((len(u),), sigma / scale.unit))).flip(self.flips)
        clean = clean.mT if self.transpose else clean
        return clean[:, [self.order.index(c) for c in range(len(self.order))]]


@dataclass(frozen=True)
class Alternative:
    """Another reading, in words.

    Attributes:
        kind: what would be wrong: scale, values, orientation, schedule or channel.
        when: ends the sentence "the network removes more noise ...".
        advice: what to do then.
    """

    kind: str
    when: str
    advice: str
    reading: Reading


def of_card(card: Card, slices: Tensor) -> Reading:
    """The card's own reading of slices (P, C, H, W)."""
    numbers = units(card)
    low, high = numbers.window or (0.0, percentile(slices))
    order = tuple(range(card.channels))
    return Reading(low, high, numbers.range, card.parameterisation, card.schedule, order=order)


def alternatives(reading: Reading, card: Card, slices: Tensor) -> list[Alternative]:
    """Every reading that differs from `reading` in one thing and that somebody might have meant."""
    return [
        *_ranges(reading),
        *(_window(reading, card.units["window"]) if card.units["window"] else _shifted(reading, slices)),
        *_turns(reading),
        *_predictions(reading),
        *_channels(reading),
    ]


def _ranges(reading: Reading) -> list[Alternative]:
    return [
        Alternative(
            "scale",
            f"when images are scaled to [{a:g}, {b:g}]",
            f"the card's range [{reading.range[0]:g}, {reading.range[1]:g}] is wrong; "
            f"convert it again with --range {a:g} {b:g}",
            replace(reading, range=(a, b)),
        )
        for a, b in RANGES
        if (a, b) != tuple(reading.range)
    ]


def _window(reading: Reading, window: list[float]) -> list[Alternative]:
    """Stored values that are no longer what the window is about, e.g. Hounsfield units."""
    low, high = window
    told = f"the window {low:g} to {high:g}"
    seen = {
        (0.0, 1.0): f"when the volume's [0, 1] is taken as {told}",
        (-1.0, 1.0): f"when the volume's [-1, 1] is taken as {told}",
        (0.0, 255.0): f"when the volume's [0, 255] is taken as {told}",
        (255 * low, 255 * high): "when the volume's values are divided by 255",
        (low + 1000, high + 1000): "when 1000 is subtracted from the volume",
        (low + 1024, high + 1024): "when 1024 is subtracted from the volume",
    }
    advice = f"the volume is not in the units of {told} that the prior was trained in; undo the scaling or the shift"
    return [
        Alternative("values", when, advice, replace(reading, low=a, high=b))
        for (a, b), when in seen.items()
        if (a, b) != (reading.low, reading.high)
    ]


def _shifted(reading: Reading, slices: Tensor) -> list[Alternative]:
    """Magnitudes begin at zero; a volume that was shifted, e.g. to [-1, 1], does not."""
    low, high = quantile(slices, 0.001), quantile(slices, 0.999)
    if slices.shape[1] > 1 or reading.low != 0 or low > -0.05 * reading.high or high <= low:
        return []
    when = f"when the volume's lowest value, {low:.4g}, is taken as zero"
    advice = (
        f"magnitudes begin at zero, this volume was shifted, e.g. to [-1, 1]; add {-low:.4g} to it "
        "(or, if these are Hounsfield units, use a prior of CT)"
    )
    return [Alternative("values", when, advice, replace(reading, low=low, high=high))]


def _turns(reading: Reading) -> list[Alternative]:
    if reading.transpose or reading.flips:
        return []
    advice = "the slices lie otherwise than in training; turn the volume's axes"
    return [
        Alternative("orientation", f"with {name}", advice, replace(reading, transpose=transpose, flips=flips))
        for (transpose, flips), name in TURNS.items()
    ]


def _predictions(reading: Reading) -> list[Alternative]:
    found = []
    for kind, means in ADAPTERS.items():
        tables = dict.fromkeys([*TABLES, reading.schedule]) if means.label is None else [reading.schedule]
        for schedule in tables:
            if (kind, schedule) == (reading.parameterisation, reading.schedule):
                continue
            named = means.label is None
            flags = f"--parameterisation {kind}" + (f" --schedule {schedule}" if named else "")
            what = "schedule" if kind == reading.parameterisation else "parameterisation"
            found.append(
                Alternative(
                    "schedule",
                    f"when its answer is read as {kind}" + (f" on the schedule {schedule}" if named else ""),
                    f"the card's {what} is wrong; convert it again with {flags}",
                    replace(reading, parameterisation=kind, schedule=schedule),
                )
            )
    return found


def _channels(reading: Reading) -> list[Alternative]:
    if len(reading.order) != 2:
        return []
    advice = "real and imaginary part are in the wrong order; swap the volume's frames, or convert the prior again"
    return [
        Alternative("channel", "with its two channels swapped", advice, replace(reading, order=reading.order[::-1]))
    ]
