"""The training loop of every network: AdamW, a warm-up and a fall of the learning rate, averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_doc import Doc
from annotated_types import Ge, Gt, Le, Lt
from torch import Generator, Tensor, nn

from invdiff.networks import Network
from invdiff.rng import generator
from invdiff.training.crops import Source

Task = Callable[[Tensor, Generator, float], tuple[Tensor, Tensor, Tensor]]
"""From crops (n, C, S, S), random numbers and the data's standard deviation: input, label and target of the network."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a training run; the same settings and seed give the same weights on the same machine."""

    steps: Annotated[int, Gt(0), Doc("Optimiser steps.")] = 10_000
    batch: Annotated[int, Gt(0), Doc("Crops per step.")] = 24
    crop: Annotated[int, Gt(0), Doc("Side of a crop in pixels; doubled, with a quarter of the batch, at the end.")] = 64
    grow_at: Annotated[float, Ge(0), Le(1), Doc("Fraction of the steps after which crops double in side.")] = 0.8
    learning_rate: Annotated[float, Gt(0), Doc("Peak learning rate of AdamW.")] = 6e-4
    decay_from: Annotated[
        float, Ge(0), Lt(1), Doc("Fraction of the steps after which the learning rate falls to 0.")
    ] = 0.6
    ema: Annotated[float, Ge(0), Lt(1), Doc("Decay of the moving average of the weights.")] = 0.999
    width: Annotated[
        int, Gt(0), Doc("Network channels at the finest level; the next have twice and thrice as many.")
    ] = 64
    seed: Annotated[int, Doc("Seed of weights, crops and noise.")] = 0


@dataclass
class Training:
    """The state after `step` optimiser steps; what a checkpoint holds."""

    net: Network
    ema: Network
    optimiser: torch.optim.AdamW
    mean: float
    std: float
    step: int = 0
    loss: float = math.nan


def begin(source: Source, settings: Settings, net: Network) -> Training:
    """The state before the first step; moments of the data are measured on 256 crops."""
    sample = source.draw(256, settings.crop, generator(settings.seed, "moments"))
    net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    ema = copy.deepcopy(net).requires_grad_(False)
    return Training(net, ema, adamw(net, settings), float(sample.mean()), float(sample.std()))


def adamw(net: Network, settings: Settings) -> torch.optim.AdamW:
    """The optimiser of a run, fresh; a checkpoint fills in its moments."""
    return torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)


def train(source: Source, settings: Settings, state: Training, task: Task, *, bf16: bool) -> Iterator[Training]:
    """Yield the state after each step, from `state.step` on; a resumed run draws the numbers of an unbroken one.

    Args:
        source: of crops in the network's units.
        settings: of the run.
        state: changed in place; its network's device is where the work is done.
        task: what the network learns, by its mean squared error.
        bf16: whether convolutions run in bfloat16.
    """
    device = next(state.net.parameters()).device
    while state.step < settings.steps:
        g = generator(settings.seed, "train", state.step)
        large = state.step >= settings.grow_at * settings.steps
        count, size = (max(1, settings.batch // 4), 2 * settings.crop) if large else (settings.batch, settings.crop)
        z, label, target = (v.to(device) for v in task(source.draw(count, size, g), g, state.std))
        for group in state.optimiser.param_groups:
            group["lr"] = settings.learning_rate * _ramp(state.step, settings)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            answer = state.net(z.contiguous(memory_format=torch.channels_last), label)
        loss = error(answer, target)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
        state.optimiser.step()
        decay = min(settings.ema, (1 + state.step) / (10 + state.step))
        with torch.no_grad():  # else the average would carry the graph of every step
            torch._foreach_lerp_(list(state.ema.parameters()), list(state.net.parameters()), 1 - decay)
        state.step, state.loss = state.step + 1, float(loss.detach())
        yield state


def error(answer: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the channels that have a target."""
    return F.mse_loss(answer[:, : target.shape[1]].float(), target)


def _ramp(step: int, settings: Settings) -> float:
    """Warm-up over 200 steps, constant, then a linear fall to zero at the last step."""
    fall = (settings.steps - step) / max(1.0, (1 - settings.decay_from) * settings.steps)
    return min((step + 1) / 200, 1.0, fall)
