"""Does this prior know this volume, and is its card true? Hypotheses, tested by denoising.

Noise of known strength is added to the user's own slices and the network takes it off. The same is asked under other
readings of the network and of the volume (`readings`), always with the same noise in the volume's units, so that the
figures may be compared: with s the noise level, minus log p of the noisy image is, per pixel and up to a constant that
all readings share, the integral of mse(s) / s^2 over log s (the I-MMSE identity; Guo, Shamai and Verdu 2005; Kong,
Brekelmans and Ver Steeg 2023). The reading that removes more noise is the one under which the volume is likelier.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.networks import Network
from invdiff.operators import gaussian_blur
from invdiff.priors import checkpoints, plausibility
from invdiff.priors.checkpoints import Card
from invdiff.priors.plausibility import Finding
from invdiff.priors.readings import Alternative, Reading, alternatives, of_card
from invdiff.priors.scaling import percentile, quantile
from invdiff.rng import generator
from invdiff.space import Space
from invdiff.volumes import Volume, to_slices

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5)  # noise, as a fraction of the slices' contrast
SCREEN = (0.05, 0.2)
MARGIN = 0.5  # dB; turning slices that a network knows in every orientation changes 0.04 dB
BLURS = (0.4, 0.6, 0.8, 1.2, 2.0, 3.0)  # standard deviations in pixels
SIDE = 128
CONFIRM = 4  # slices on which what the screen found must hold
MOST = 2  # mistakes at once that are looked for


@dataclass(frozen=True)
class Level:
    """What the network did to one noise level.

    Attributes:
        sigma: noise, as a fraction of the contrast.
        removed: 20 log10 (noise / error) in dB; 0 does nothing, 20 leaves a tenth.
        blur: the same for the best Gaussian blur, its width chosen with the truth in hand.
        bias: mean error as a fraction of the noise.
    """

    sigma: float
    removed: float
    blur: float
    bias: float


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        prior: name on the card.
        slices, axis: how many slices were looked at, along which stored axis.
        values: stored values that became the ends of the card's range.
        levels: the noise ladder under the card's own reading.
        tried: every other reading, and how many dB more noise it removes than the card's (at a few levels).
        findings: what is wrong; empty when nothing is.
        seconds: how long it took.
    """

    prior: str
    slices: int
    axis: int
    values: tuple[float, float]
    levels: list[Level]
    tried: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def check(path: Path, volume: Volume, *, axis: int = 2, parts: bool = False, slices: int = 8, seed: int = 0) -> Report:
    """Denoise central slices of a volume at a ladder of noise levels, and say what is wrong.

    Args:
        path: of a prior.
        volume: what the prior is to be used on; the first frame is looked at.
        axis: stored axis that counts the slices.
        parts: the first two frames are real and imaginary part, for a prior of two channels; without it the frame is
            a magnitude, and its phase is taken as zero.
        slices: how many, at most.
        seed: of the noise.

    Raises:
        PriorError: as `checkpoints.load`; a constant volume; too few frames; more than two channels.
    """
    net, card = checkpoints.load(path)
    checkpoints.refuse_bridge(card)
    return examine(net, card, volume, axis=axis, parts=parts, slices=slices, seed=seed)


def examine(
    net: Network, card: Card, volume: Volume, *, axis: int = 2, parts: bool = False, slices: int = 8, seed: int = 0
) -> Report:
    """`check` for a network in memory."""
    began = time.perf_counter()
    stack = central(volume, card, axis, parts, slices)
    trial = Trial(net, card, stack, seed)
    own = of_card(card, stack)
    levels = trial.ladder(own)
    findings: list[Finding] = [] if card.planes == "all" else _planes(trial, own, volume, axis, parts)
    # On slices of another plane the network is lost, and any other reading may seem better.
    changes, tried = ([], {}) if findings else _mistakes(trial, own, _mean(x.blur for x in levels))
    findings += changes
    findings += plausibility.look(card, volume, stack, axis=axis, found={f.kind for f in findings})
    findings += [] if findings else _denoising(levels)
    spent = time.perf_counter() - began
    return Report(card.name, len(stack), axis, (own.low, own.high), levels, tried, findings, spent)


def _mistakes(trial: Trial, own: Reading, blur: float) -> tuple[list[Finding], dict[str, float]]:
    """Change the reading while that removes more noise: a volume may be scaled wrongly and lie wrongly.

    Changes that still leave the network behind a blur explain nothing.
    """
    better, tried = trial.best(own)
    findings: list[Finding] = []
    reading = own
    while better is not None:
        gain = trial.gain(better.reading, reading)
        text = f"the network removes {gain:.1f} dB more noise {better.when}: {better.advice}"
        findings.append(Finding(better.kind, text))
        reading = better.reading
        better = trial.best(reading)[0] if len(findings) < MOST else None
    return ([] if findings and trial.removed(reading) < blur else findings), tried


class Trial:
    """Slices with noise of known strength, the same for every reading.

    Args:
        net, card: a prior.
        stack: slices (P, C, H, W) in stored units.
        seed: of the noise.

    Raises:
        PriorError: constant slices.
    """

    def __init__(self, net: Network, card: Card, stack: Tensor, seed: int) -> None:
        self.net, self.card, self.stack, self.seed = net, card, stack, seed
        self.contrast = percentile(stack) if stack.shape[1] > 1 else quantile(stack, 0.999) - quantile(stack, 0.001)
        if not self.contrast > 0:
            raise PriorError("the slices are constant: nothing can be said of a prior; check the volume and the axis")
        self._known: dict[tuple[Reading, tuple[float, ...], int | None], float] = {}
        self.noise = [torch.randn(stack.shape, generator=generator(seed, "check", n)) for n in range(len(LEVELS))]

    def error(self, reading: Reading, level: float, rows: int | None = None) -> Tensor:
        """Clean estimate less truth at one level of `LEVELS`, for the first `rows` slices."""
        sigma, clean = level * self.contrast, self.stack[:rows]
        noisy = clean + sigma * self.noise[LEVELS.index(level)][:rows]
        return reading.denoise(self.net, self.card, noisy, sigma) - clean

    def removed(self, reading: Reading, levels: Sequence[float] = LEVELS, rows: int | None = None) -> float:
        """Mean over noise levels of the noise removed, in dB."""
        key = reading, tuple(levels), rows
        if key not in self._known:
            self._known[key] = _mean(_decibels(self.error(reading, s, rows), s * self.contrast) for s in levels)
        return self._known[key]

    def gain(self, reading: Reading, over: Reading) -> float:
        """How many dB more noise one reading removes than another, at every level on the slices for confirmation."""
        return self.removed(reading, rows=CONFIRM) - self.removed(over, rows=CONFIRM)

    def ladder(self, reading: Reading) -> list[Level]:
        """Every level in full."""
        errors = [self.error(reading, s) for s in LEVELS]
        return [
            Level(
                s,
                _decibels(e, s * self.contrast),
                self.blur(s),
                float(e.mean()) / (s * self.contrast),
            )
            for s, e in zip(LEVELS, errors, strict=True)
        ]

    def blur(self, level: float) -> float:
        """Noise removed by the best Gaussian blur, in dB."""
        sigma = level * self.contrast
        noisy = self.stack + sigma * self.noise[LEVELS.index(level)]
        space = Space(tuple(self.stack.shape[1:]))
        return max(0.0, *(_decibels(gaussian_blur(space, [w, w])(noisy) - self.stack, sigma) for w in BLURS))

    def best(self, reading: Reading) -> tuple[Alternative | None, dict[str, float]]:
        """The reading that is better by the margin, if any, and what each one gains on a few slices and levels."""
        rows = min(2, len(self.stack))
        own = self.removed(reading, SCREEN, rows)
        others = alternatives(reading, self.card, self.stack)
        gains = {a.when: self.removed(a.reading, SCREEN, rows) - own for a in others}
        hopeful = sorted((a for a in others if gains[a.when] > MARGIN / 2), key=lambda a: -gains[a.when])[:2]
        sure = [(self.gain(a.reading, reading), a) for a in hopeful]
        gain, winner = max(sure, key=lambda pair: pair[0], default=(0.0, None))
        return (winner if gain > MARGIN else None), gains


def central(volume: Volume, card: Card, axis: int, parts: bool, slices: int) -> Tensor:
    """Slices about the middle, cropped about theirs, (P, C, H, W) in stored units; phase zero unless `parts`."""
    if card.channels not in (1, 2):
        raise PriorError(f"the prior has {card.channels} channels; 1 (magnitude) or 2 (complex) can be checked")
    if parts and (card.channels != 2 or len(volume.data) != 2):
        found = f"the prior has {card.channels} and the volume {len(volume.data)}"
        raise PriorError(f"real and imaginary part need 2 channels and 2 frames; {found}; check the magnitude instead")
    frames = [to_slices(frame[None], axis)[:, 0] for frame in volume.data[: card.channels if parts else 1]]
    frames += [torch.zeros_like(frames[0])] * (card.channels - len(frames))
    count, h, w = frames[0].shape
    picks = sorted({round(float(p)) for p in torch.linspace(0.3, 0.7, slices) * (count - 1)})
    top, left = max(0, h - SIDE) // 2, max(0, w - SIDE) // 2
    return torch.stack(frames, 1)[picks, :, top : top + SIDE, left : left + SIDE]


def _planes(trial: Trial, reading: Reading, volume: Volume, axis: int, parts: bool) -> list[Finding]:
    """Whether the network knows slices along another axis and those asked for less, compared with a blur."""

    def excess(t: Trial) -> float:
        return t.removed(reading, SCREEN) - _mean(t.blur(s) for s in SCREEN)

    own, best = excess(trial), (0.0, axis)
    for other in {0, 1, 2} - {axis}:
        sides = [mm for a, mm in enumerate(volume.spacing) if a != other]
        stack = central(volume, trial.card, other, parts, len(trial.stack))
        if max(sides) < 2 * min(sides) and min(stack.shape[-2:]) >= 16:
            best = max(best, (excess(Trial(trial.net, trial.card, stack, trial.seed)), other))
    if best[0] - own < 2 * MARGIN or best[1] == axis:
        return []
    text = f"the network removes {best[0] - own:.1f} dB more noise from slices along axis {best[1]}, beyond a blur,"
    return [Finding("plane", f"{text} than along axis {axis}: it was trained on another plane; use --axis {best[1]}")]


def _denoising(levels: list[Level]) -> list[Finding]:
    """What is asked of any denoiser: more than a blur does, errors that grow with the noise, no bias."""
    found = []
    removed, blur = _mean(x.removed for x in levels), _mean(x.blur for x in levels)
    if removed < blur:
        found.append(
            f"the network removes {removed:.1f} dB of noise, a Gaussian blur {blur:.1f} dB, and no other reading "
            "explains it: the prior does not know such images (another organ, contrast or resolution)"
        )
    errors = [x.sigma * 10 ** (-x.removed / 20) for x in levels]
    if errors != sorted(errors):
        rows = ", ".join(f"{e:.3g} at {x.sigma:g}" for e, x in zip(errors, levels, strict=True))
        found.append(f"the error does not grow with the noise ({rows} of the contrast): the noise levels are misread")
    worst = max(levels, key=lambda x: abs(x.bias))
    if abs(worst.bias) > 0.25:
        found.append(
            f"the mean is off by {worst.bias:+.2f} of the noise at level {worst.sigma:g}: the images are darker or "
            "brighter than those of the training; check the volume's units"
        )
    return [Finding("denoising", text) for text in found]


def _decibels(error: Tensor, sigma: float) -> float:
    rmse = float(error.double().square().mean().sqrt())
    return max(-60.0, 20 * math.log10(sigma / max(rmse, 1e-12 * sigma))) if math.isfinite(rmse) else -60.0


def _mean(values: Any) -> float:  # noqa: ANN401 - any iterable of numbers
    values = list(values)
    return sum(values) / len(values)
