"""A prior on disk: safetensors weights, and a card that says what they are. No pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from invdiff.errors import PriorError
from invdiff.files import is_prior_file, sha256, write_atomic
from invdiff.networks.unet import UNet
from invdiff.priors.network import NetworkPrior
from invdiff.space import Space

VERSION = 1
SCALING = "x / p99.9(start image)"


@dataclass(frozen=True)
class Card:
    """What a stranger must know of a prior.

    Attributes:
        config: arguments of the UNet.
        mean, std: moments of the training images, in units where their 99.9th percentile is 1.
        sigma_min, sigma_max: noise levels that training covered, in the same units.
        scaling: how images are brought to these units.
        planes, spacing: slice orientations and voxel sizes (mm) seen in training.
        scans: name, source and licence of each training scan.
        training: settings and number of steps.
    """

    name: str
    config: dict[str, Any]
    mean: float
    std: float
    sigma_min: float = 0.002
    sigma_max: float = 10.0
    scaling: str = SCALING
    parameterisation: str = "edm"
    planes: str = "all"
    spacing: list[float] = field(default_factory=list)
    scans: list[dict[str, str]] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    note: str = "Research use only."
    version: int = VERSION


def save(path: Path, net: nn.Module, card: Card) -> None:
    """Write weights, rounded to bfloat16, and card; atomically."""
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in net.state_dict().items()}
    write_atomic(path, lambda p: save_file(weights, p, {"card": json.dumps(asdict(card))}))


def load(path: Path) -> tuple[UNet, Card]:
    """Read what `save` wrote.

    Raises:
        PriorError: missing, truncated or foreign file; another card version; weights that do not fit the card.
    """
    card = read_card(path)
    try:
        net = UNet(**(card.config | {"channels": tuple(card.config["channels"])}))
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, RuntimeError, TypeError, KeyError) as e:
        reason = str(e).splitlines()[0]
        raise PriorError(f"{path}: the weights do not fit their card ({reason}); get the file again") from e
    return net, card


def read_card(path: Path) -> Card:
    """The card alone; raises PriorError as `load` does."""
    if not path.is_file():
        raise PriorError(f"no prior at {path}; `invdiff info priors` lists those that ship, or train one")
    try:
        with safe_open(path, framework="pt") as f:
            text = (f.metadata() or {}).get("card")
    except (SafetensorError, OSError) as e:
        raise PriorError(f"{path} is not a readable safetensors file ({e}); it may be truncated, get it again") from e
    if text is None:
        raise PriorError(f"{path} has no card: it is no invdiff prior; make one with `invdiff train prior`")
    try:
        facts = json.loads(text)
    except ValueError as e:
        raise PriorError(f"{path}: its card is damaged ({e}); get the file again") from e
    if facts.get("version") != VERSION:
        found = facts.get("version")
        raise PriorError(f"{path} has a card of version {found}, this invdiff reads version {VERSION}; update invdiff")
    try:
        return Card(**facts)
    except TypeError as e:
        raise PriorError(f"{path}: its card is damaged ({e}); get the file again") from e


def find(name: str) -> Path:
    """Path of a prior that ships with invdiff, or of a file.

    Raises:
        PriorError: neither; names those that ship.
    """
    if name in shipped():
        with as_file(files("invdiff") / "priors" / "weights" / f"{name}.safetensors") as path:
            return path
    if is_prior_file(name):
        return Path(name)
    raise PriorError(f"no prior {name!r}; those that ship: {', '.join(shipped())}; a file name ends in .safetensors")


def shipped() -> list[str]:
    """Names of the priors inside the package."""
    folder = files("invdiff") / "priors" / "weights"
    return sorted(f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors"))


def network_prior(path: Path, space: Space, *, dtype: torch.dtype, width: int = 8) -> tuple[NetworkPrior, Card, str]:
    """The prior bound to a size, its card, and its checksum."""
    net, card = load(path)
    if card.scaling != SCALING:
        raise PriorError(f"{path} expects images scaled as {card.scaling!r}, here they are {SCALING!r}; convert it")
    moments = ("mean", "std", "sigma_min", "sigma_max", "parameterisation")
    how: dict[str, Any] = {name: getattr(card, name) for name in moments}
    return NetworkPrior(net, space, dtype=dtype, width=width, **how), card, sha256(path)
