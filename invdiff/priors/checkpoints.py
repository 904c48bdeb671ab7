"""A prior or a bridge on disk: safetensors weights, and a card that says what they are. No pickle."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from invdiff import networks
from invdiff.bridges import NetworkBridge, process
from invdiff.errors import PriorError
from invdiff.files import sha256, write_atomic
from invdiff.library import find as find
from invdiff.library import shipped as shipped
from invdiff.networks import Network
from invdiff.priors.network import NetworkPrior
from invdiff.priors.scaling import Units
from invdiff.space import Space

VERSION = 2


@dataclass(frozen=True)
class Card:
    """What a stranger must know of a prior or a bridge.

    Attributes:
        config: arguments of the network; `in_channels` is 1 for magnitudes, 2 for real and imaginary part.
        mean, std: moments of the training images in the prior's units.
        architecture: class of `invdiff.networks`, in lower case.
        sigma_min, sigma_max: noise levels that training covered, in the same units.
        units: what these units mean: window and range of `Units`.
        parameterisation: what the network predicts (`invdiff.priors.parameterisation`).
        schedule: the noise table of its labels, where the parameterisation has one.
        planes, spacing: slice orientations and voxel sizes (mm) seen in training.
        scans: name, source and licence of each training scan.
        training: settings and number of steps.
        quality: measured figures, by name of scan and task.
        bridge: of a bridge, which is no prior, its process (process, beta_max, spread), whether it is conditional,
            and the family of acquisitions that it was trained for.
        reference: what the network answers to `reference`'s fixed input, to know damaged weights by.
    """

    name: str
    config: dict[str, Any]
    mean: float
    std: float
    architecture: str = "unet"
    sigma_min: float = 0.002
    sigma_max: float = 10.0
    units: dict[str, Any] = field(default_factory=lambda: asdict(Units()))
    parameterisation: str = "edm"
    schedule: str = "linear"
    planes: str = "all"
    spacing: list[float] = field(default_factory=list)
    scans: list[dict[str, str]] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    bridge: dict[str, Any] | None = None
    reference: list[float] = field(default_factory=list)
    licence: str = ""
    note: str = "Research use only."
    version: int = VERSION

    @property
    def channels(self) -> int:
        """1 for magnitudes or attenuation, 2 for complex images."""
        seen = int(self.config["in_channels"])
        return seen // 2 if self.bridge and self.bridge["conditional"] else seen


def save(path: Path, net: Network, card: Card, dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Write weights and card, with the reference of the network as it will be read; atomically.

    Args:
        path: file to write, .safetensors.
        net: the network.
        card: what it is; its reference is filled in.
        dtype: what weights are rounded to; None keeps their own, as converted priors must answer like their originals.
    """
    weights = {name: value.to(dtype or value.dtype).contiguous() for name, value in net.state_dict().items()}
    rounded = networks.build(card.architecture, card.config)
    rounded.load_state_dict({name: value.float() for name, value in weights.items()})
    facts = asdict(card) | {"reference": reference(rounded)}
    write_atomic(path, lambda p: save_file(weights, p, {"card": json.dumps(facts)}))


def reference(net: Network) -> list[float]:
    """Eight numbers of one forward call on a fixed pattern at label 0.25, float32, rounded to 5 digits."""
    side = torch.arange(float(max(64, net.multiple_of)))
    y, x = torch.meshgrid(side, side, indexing="ij")
    image = torch.stack([torch.sin(0.11 * x * (c + 1) + 0.07 * y) for c in range(net.config["in_channels"])])[None]
    with torch.no_grad():
        out = net.float().eval()(image, torch.full((1,), 0.25))[0, 0]
    return [float(f"{v:.5g}") for v in out.flatten()[torch.arange(8) * 509].tolist()]


def load(path: Path) -> tuple[Network, Card]:
    """Read what `save` wrote; the network is in float32.

    Raises:
        PriorError: missing, truncated or foreign file; another card version; weights that do not fit the card.
    """
    card = read_card(path)
    try:
        net = networks.build(card.architecture, card.config)
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, RuntimeError, TypeError, KeyError) as e:
        reason = str(e).splitlines()[0]
        raise PriorError(f"{path}: the weights do not fit their card ({reason}); get the file again") from e
    return net.eval(), card


def verify(path: Path) -> Card:
    """Load a prior and compare its reference forward with the card's; raises PriorError when they differ."""
    net, card = load(path)
    got, want = torch.tensor(reference(net)), torch.tensor(card.reference)
    if got.shape != want.shape or not torch.allclose(got, want, rtol=1e-3, atol=1e-4):
        raise PriorError(f"{path}: its network does not answer as its card says; the weights are damaged, get it again")
    return card


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


def network_prior(path: Path, space: Space, *, dtype: torch.dtype, width: int = 8) -> tuple[NetworkPrior, Card, str]:
    """The prior bound to a size, its card, and its checksum; raises PriorError as `load`, and for a bridge."""
    net, card, checksum = _own(path)
    return bind(net, card, space, dtype=dtype, width=width), card, checksum


def network_bridge(path: Path, space: Space, *, dtype: torch.dtype, width: int = 8) -> tuple[NetworkBridge, Card, str]:
    """The bridge bound to a size, its card, and its checksum; raises PriorError as `load`, and for a prior."""
    net, card, checksum = _own(path)
    if card.bridge is None:
        raise PriorError(f"{card.name} is a prior, no bridge; use it with other solvers, or train a bridge")
    how = card.bridge
    way = process(how["process"], how["beta_max"], how["spread"])
    made = NetworkBridge(net, space, way, conditional=how["conditional"], std=card.std, dtype=dtype, width=width)
    return made, card, checksum


def _own(path: Path) -> tuple[Network, Card, str]:
    """A network of one's own, for it is moved and rounded in place; the file is read once in a process."""
    stamp = path.stat() if path.is_file() else None
    net, card, checksum = _read(path, stamp and (stamp.st_mtime_ns, stamp.st_size))
    return deepcopy(net), card, checksum


@lru_cache(maxsize=2)
def _read(path: Path, stamp: tuple[int, int] | None) -> tuple[Network, Card, str]:
    del stamp  # another one: the file has changed
    return *load(path), sha256(path)


def bind(net: Network, card: Card, space: Space, *, dtype: torch.dtype, width: int = 8) -> NetworkPrior:
    """A network in memory as the prior that its card describes, for images of one size."""
    refuse_bridge(card)
    moments = ("mean", "std", "sigma_min", "sigma_max", "parameterisation", "schedule")
    how: dict[str, Any] = {name: getattr(card, name) for name in moments}
    return NetworkPrior(net, space, dtype=dtype, width=width, **how)


def refuse_bridge(card: Card) -> None:
    """Raise PriorError where a prior is needed."""
    if card.bridge:
        raise PriorError(
            f"{card.name} is a bridge, no prior: it knows no images without their degraded form; use it with "
            "--solver cddb or i2sb"
        )


def units(card: Card) -> Units:
    """The card's units as an object."""
    window, span = card.units["window"], card.units["range"]
    return Units(None if window is None else (window[0], window[1]), (span[0], span[1]))
