"""The whole state of a training run in one safetensors file, so that a killed run goes on to the same weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from invdiff.networks.unet import UNet
from invdiff.training.denoiser import DenoiserTraining, Training, adamw


def tensors(state: Training) -> dict[str, Tensor]:
    """Weights, averaged weights and both moments of AdamW, by name."""
    out: dict[str, Tensor] = {}
    for kind, net in (("net", state.net), ("ema", state.ema)):
        out |= {f"{kind}.{name}": value.detach() for name, value in net.state_dict().items()}
    for name, p in state.net.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state.optimiser.state.get(p, {}):
                out[f"{moment}.{name}"] = state.optimiser.state[p][moment]
    return {name: value.contiguous() for name, value in out.items()}


def metadata(state: Training, settings: DenoiserTraining) -> dict[str, str]:
    """What is not a tensor: step, moments of the data, architecture and settings, as JSON."""
    facts = {"step": state.step, "mean": state.mean, "std": state.std, "config": state.net.config}
    return {"training": json.dumps(facts | {"settings": dataclasses.asdict(settings)})}


def load(path: Path) -> tuple[Training, DenoiserTraining]:
    """Read back what `tensors` and `metadata` gave."""
    with safe_open(path, framework="pt") as f:
        facts = json.loads(f.metadata()["training"])
    values = load_file(path)
    settings = DenoiserTraining(**facts["settings"])
    net, ema = _net(facts["config"], "net.", values), _net(facts["config"], "ema.", values).requires_grad_(False)
    optimiser = adamw(net, settings)
    for name, p in net.named_parameters():
        if f"exp_avg.{name}" in values:
            optimiser.state[p] = {
                "step": torch.tensor(float(facts["step"])),
                "exp_avg": values[f"exp_avg.{name}"].to(memory_format=_format(p)),
                "exp_avg_sq": values[f"exp_avg_sq.{name}"].to(memory_format=_format(p)),
            }
    return Training(net, ema, optimiser, facts["mean"], facts["std"], facts["step"]), settings


def _net(config: dict[str, object], prefix: str, values: dict[str, Tensor]) -> UNet:
    net = UNet(**config)  # type: ignore[arg-type]
    net.load_state_dict({k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)})
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _format(p: Tensor) -> torch.memory_format:
    return torch.channels_last if p.ndim == 4 else torch.contiguous_format
