"""One training run and its files: the same for a prior and a bridge."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from invdiff.errors import ConfigError
from invdiff.files import check_outputs, sha256

if TYPE_CHECKING:
    from invdiff.networks import Network
    from invdiff.priors.checkpoints import Card
    from invdiff.training.loop import Settings, Task, Training
    from invdiff_datasets.training import Data


class Judge(Protocol):
    """How well a network does on held-out crops."""

    def losses(self, net: Network, std: float) -> dict[float, float]:
        """Error left, 1 being none taken off, at several levels or times."""


def check_output(output: Path, *, force: bool) -> None:
    """Raise ConfigError for a wrong ending, or where a file would be replaced unasked."""
    if not output.name.endswith(".safetensors"):
        raise ConfigError(f"{output}: weights are written as .safetensors; choose this ending")
    check_outputs([output, picture(output)], force=force)


def picture(output: Path) -> Path:
    """`mine.safetensors` -> `mine.png`."""
    return output.with_suffix(".png")


class Run(ABC):
    """A run that goes on from its checkpoint, if there is one.

    Args:
        output: file of the weights.
        settings: of the training.
        facts: what the crops are made of, JSON-able; a checkpoint of other facts is refused.
        data: where they come from.
        start: weights to go on from, if not fresh ones.
        every: steps between checkpoints and validations.
        device: name of the device.
    """

    task: Task
    validation: Judge

    def __init__(
        self,
        output: Path,
        settings: Settings,
        facts: dict[str, Any],
        data: Data,
        start: Path | None,
        every: int,
        device: str,
    ) -> None:
        from invdiff.preparation import pick_device

        self.output, self.settings, self.data, self.start, self.every = output, settings, data, start, every
        self.facts = {**facts, "scans": data.scans}
        self.saved = output.with_suffix(".checkpoint")
        self.device = pick_device(device)
        self.state: Training = self._resume() if self.saved.exists() else self._begin()

    @abstractmethod
    def network(self) -> Network:
        """The network at the first step."""

    @abstractmethod
    def card(self, common: dict[str, Any]) -> Card:
        """The card, given the fields that all cards share."""

    @abstractmethod
    def draw(self, card: Card) -> None:
        """Write the picture."""

    def begun(self, *channels: int) -> Network:
        """The weights to go on from, of one of these numbers of channels; or fresh ones of the first."""
        from invdiff.priors import checkpoints
        from invdiff.training.denoiser import network

        net = checkpoints.load(self.start)[0] if self.start else network(channels[0], self.settings)
        found = net.config["in_channels"]
        if found not in channels:
            raise ConfigError(f"{self.start} has {found} channel(s), this run {channels[-1]}; use another start")
        return net

    def train(self) -> None:
        """All steps that are left; a checkpoint and a line of validation now and then."""
        from invdiff.priors.network import pick_dtype
        from invdiff.training.loop import train
        from invdiff_cli.progress import progress

        bf16 = "bfloat16" in str(pick_dtype("auto", self.device))
        with progress("training", self.settings.steps - self.state.step, every=30.0) as tick:
            for state in train(self.data.train, self.settings, self.state, self.task, bf16=bf16):
                tick(state)
                if state.step % self.every == 0 and state.step < self.settings.steps:
                    self._checkpoint()
                    print(self._line(), file=sys.stderr, flush=True)

    def save(self, name: str, licence: str) -> None:
        """Weights with their card, and the picture; then the checkpoint goes."""
        from invdiff.priors import checkpoints

        state = self.state
        levels = self.validation.losses(state.ema, state.std)
        training = asdict(self.settings) | {k: v for k, v in self.facts.items() if k != "scans"}
        training |= {"validation": {f"{s:g}": round(v, 4) for s, v in levels.items()}}
        training |= {"start_sha256": sha256(self.start)} if self.start else {}
        window = self.facts["window"]
        card = self.card(
            {
                "name": name or self.output.name.removesuffix(".safetensors"),
                "licence": licence,
                "architecture": type(state.ema).__name__.lower(),
                "config": state.ema.config,
                "mean": round(state.mean, 6),
                "std": round(state.std, 6),
                "units": {"window": window and list(window), "range": [0.0, 1.0]},
                "planes": str(self.facts["planes"]),
                "spacing": self.data.spacing,
                "scans": self.data.scans,
                "training": training,
            }
        )
        self.draw(card)
        checkpoints.save(self.output, state.ema, card)
        self.saved.unlink(missing_ok=True)

    def _begin(self) -> Training:
        from invdiff.training.loop import begin

        return begin(self.data.train, self.settings, self.network().to(self.device).requires_grad_())

    def _resume(self) -> Training:
        from invdiff.training import checkpoints

        return checkpoints.to(checkpoints.resume(self.saved, self.settings, self.facts), self.device)

    def _checkpoint(self) -> None:
        from invdiff.training import checkpoints

        checkpoints.save(self.saved, self.state, self.settings, self.facts)

    def _line(self) -> str:
        levels = self.validation.losses(self.state.ema, self.state.std)
        errors = ", ".join(f"{v:.3f} at {s:g}" for s, v in levels.items())
        return f"step {self.state.step}/{self.settings.steps}, loss {self.state.loss:.4f}; error left: {errors}"
