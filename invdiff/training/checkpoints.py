"""The whole state of a training run in one safetensors file, so that a killed run goes on to the same weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from invdiff import networks
from invdiff.errors import ConfigError, FileError
from invdiff.files import write_atomic
from invdiff.networks import Network
from invdiff.training.loop import Settings, Training, adamw


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


def metadata(state: Training, settings: Settings, data: dict[str, Any]) -> dict[str, str]:
    """What is not a tensor: step, moments, architecture, settings, and what the crops are drawn from, as JSON."""
    facts = {"step": state.step, "mean": state.mean, "std": state.std, "data": data}
    facts |= {"architecture": type(state.net).__name__.lower(), "config": state.net.config}
    return {"training": json.dumps(facts | {"settings": dataclasses.asdict(settings)})}


def save(path: Path, state: Training, settings: Settings, data: dict[str, Any]) -> None:
    """Write the whole state, never half of it."""
    content, facts = tensors(state), metadata(state, settings, data)
    write_atomic(path, lambda p: save_file(content, p, facts))


def resume(path: Path, settings: Settings, data: dict[str, Any]) -> Training:
    """The state that was saved, of this very run.

    Raises:
        FileError: no readable checkpoint.
        ConfigError: of other settings, or of other data.
    """
    try:
        state, found, facts = load(path, type(settings))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise FileError(f"{path} is no readable checkpoint; delete it to begin again") from e
    if found != settings:
        raise ConfigError(f"{path} belongs to a run with other settings ({found}); delete it or use these")
    if facts != plain(data):
        raise ConfigError(f"{path} belongs to a run on other data; delete it or name the same volumes")
    return state


def load(path: Path, kind: type[Settings]) -> tuple[Training, Settings, dict[str, Any]]:
    """Read back what `tensors` and `metadata` gave: state, settings of that kind, data."""
    with safe_open(path, framework="pt") as f:
        facts = json.loads(f.metadata()["training"])
    values = load_file(path)
    settings = kind(**facts["settings"])
    net, ema = _net(facts, "net.", values), _net(facts, "ema.", values).requires_grad_(False)
    optimiser = adamw(net, settings)
    for name, p in net.named_parameters():
        if f"exp_avg.{name}" in values:
            optimiser.state[p] = {
                "step": torch.tensor(float(facts["step"])),
                "exp_avg": values[f"exp_avg.{name}"].to(memory_format=_format(p)),
                "exp_avg_sq": values[f"exp_avg_sq.{name}"].to(memory_format=_format(p)),
            }
    return Training(net, ema, optimiser, facts["mean"], facts["std"], facts["step"]), settings, facts["data"]


def _net(facts: dict[str, Any], prefix: str, values: dict[str, Tensor]) -> Network:
    net = networks.build(facts["architecture"], facts["config"])
    net.load_state_dict({k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)})
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _format(p: Tensor) -> torch.memory_format:
    return torch.channels_last if p.ndim == 4 else torch.contiguous_format


def plain(data: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(data))


def to(state: Training, device: torch.device) -> Training:
    """Move networks and the optimiser's moments, in place."""
    for net in (state.net, state.ema):
        net.to(device)
    for moments in state.optimiser.state.values():
        moments |= {name: value.to(device) for name, value in moments.items() if name != "step"}
    return state
