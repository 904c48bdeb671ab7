"""Files of other code bases -> state dicts. Pickled code runs only when the user allows it."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from invdiff.errors import PriorError
from invdiff.priors.foreign.base import State
from invdiff.priors.foreign.ncsnpp import average

TORCH = (".pt", ".pth", ".bin", ".ckpt")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "model.safetensors")
RISK = "unpickling runs whatever code the file's author put in"


class PickleWarning(UserWarning):
    """Code from a file is about to run, as the user allowed."""


@dataclass(frozen=True)
class Source:
    """What a file holds.

    Attributes:
        path: the file with the weights.
        states: state dicts by their place in the file; "" is the file itself. Moving averages come first.
        kinds: class of the object that a state dict was taken from, by the same names.
        config, scheduler: contents of diffusers' files.
    """

    path: Path
    states: dict[str, State]
    kinds: dict[str, str]
    config: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None


def read(path: Path, *, allow_pickle: bool = False) -> Source:
    """Read a checkpoint, or a folder as diffusers writes it.

    Raises:
        PriorError: missing, damaged or of another kind; or pickled, and `allow_pickle` is off.
    """
    folder = path / "unet" if (path / "unet").is_dir() else path
    weights = path if not path.is_dir() else next((folder / n for n in WEIGHTS if (folder / n).is_file()), None)
    if weights is None:
        raise PriorError(f"{path} is a folder without {' or '.join(WEIGHTS[:2])}; name a checkpoint or its folder")
    if not weights.is_file():
        raise PriorError(f"no checkpoint at {path}; name a file, or a folder as diffusers writes it")
    content = _content(weights, allow_pickle)
    found = list(_states(content, ""))
    if not found:
        raise PriorError(f"{weights} holds no named tensors; save the network's state dict and convert that")
    found.sort(key=lambda item: "ema" not in item[0].lower())  # stable: moving averages first
    beside = weights.parent
    return Source(
        weights,
        {name: state for name, state, _ in found},
        {name: kind for name, _, kind in found},
        _json(beside / "config.json"),
        _json(beside / "scheduler_config.json") or _json(beside.parent / "scheduler" / "scheduler_config.json"),
    )


def _content(path: Path, allow_pickle: bool) -> Any:  # noqa: ANN401 - whatever the file holds
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as e:
            raise PriorError(
                f"{path} is not a readable safetensors file ({e}); it may be truncated, get it again"
            ) from e
    if path.suffix == ".pkl":
        return _unpickle(path, allow_pickle)
    if path.suffix in TORCH:
        return _torch(path, allow_pickle)
    endings = ", ".join((".safetensors", *TORCH, ".pkl"))
    raise PriorError(f"{path}: checkpoints end in {endings}; rename the file if it is one of these")


def _torch(path: Path, allow_pickle: bool) -> Any:  # noqa: ANN401
    with path.open("rb") as f:
        if not f.read(2).startswith((b"PK", b"\x80")):  # a zip archive, or a pickle as torch wrote it before 1.6
            raise PriorError(f"{path} is not a checkpoint of torch; it may be damaged, get it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        if not allow_pickle:
            raise PriorError(
                f"{path} holds pickled objects, not only tensors; --allow-pickle loads it, but {RISK}: "
                "use it only for files that you trust, or save the state dict alone"
            ) from e
    except (RuntimeError, EOFError, OSError, ValueError) as e:
        raise PriorError(f"{path} is not a readable checkpoint ({_line(e)}); it may be truncated, get it again") from e
    warnings.warn(f"{path}: {RISK}", PickleWarning, stacklevel=2)
    return _objects(path, lambda: torch.load(path, map_location="cpu", weights_only=False))


def _unpickle(path: Path, allow_pickle: bool) -> Any:  # noqa: ANN401
    if not allow_pickle:
        raise PriorError(
            f"{path} is a pickle of the network itself; --allow-pickle loads it if the original code is on PYTHONPATH, "
            f"but {RISK}. Better save its state dict once, torch.save(network.state_dict(), 'x.pt'), and convert that"
        )
    warnings.warn(f"{path}: {RISK}", PickleWarning, stacklevel=2)
    return _objects(path, lambda: pickle.loads(path.read_bytes()))


def _objects(path: Path, load: Any) -> Any:  # noqa: ANN401
    try:
        return load()
    except (ImportError, AttributeError) as e:
        raise PriorError(
            f"{path} needs the code that wrote it ({_line(e)}); put that on PYTHONPATH, or save the network's state "
            "dict there, torch.save(network.state_dict(), 'x.pt'), and convert that"
        ) from e
    except Exception as e:  # a pickle can raise anything
        raise PriorError(f"{path} cannot be unpickled ({_line(e)}); get the file again") from e


def _states(value: Any, name: str) -> Iterator[tuple[str, State, str]]:  # noqa: ANN401
    """All state dicts inside, each with its place and the class that it was taken from."""
    if isinstance(value, nn.Module):
        yield name, dict(value.state_dict()), type(value).__name__
    if not isinstance(value, Mapping):
        return
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield name, tensors, ""
    for key, inner in value.items():
        place = f"{name}.{key}" if name else str(key)
        model = value.get("model")
        if isinstance(inner, Mapping) and "shadow_params" in inner and isinstance(model, Mapping):
            state = average({k: v for k, v in model.items() if isinstance(v, Tensor)}, inner["shadow_params"])
            if state is not None:
                yield f"{place}.shadow_params", state, ""
        elif str(key) not in ("optimizer", "optimizer_states"):
            yield from _states(inner, place)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as e:
        raise PriorError(f"{path} is no JSON mapping ({_line(e)}); get it again") from e


def _line(e: Exception) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0]
