"""A prior that can be steered: the same network, with low-rank changes of its weights that follow a scan."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.files import write_atomic
from invdiff.priors.base import Prior
from invdiff.priors.lowrank import from_peft, reset, to_peft, with_lowrank
from invdiff.priors.network import NetworkPrior


class SteeredPrior(Prior):
    """A network prior with low-rank changes W + B A in its residual and attention blocks (Barbano et al., TMI 2025).

    Until something adapts `changes` it is `base`, bit for bit. The weights of `base` are shared and never written.

    Args:
        base: the prior.
        rank: r of each change.
        seed: of the first A.

    Attributes:
        changes: the low-rank changes by layer; their parameters are what `invdiff.steering` adapts.

    Raises:
        ConfigError: a rank above the smaller side of a layer.
        PriorError: a network without blocks to adapt.
    """

    def __init__(self, base: NetworkPrior, rank: int = 4, seed: int = 0) -> None:
        super().__init__()
        net, self.changes = with_lowrank(base.net, rank)
        self.base, self.changed, self.rank, self.seed = base, base.over(net), rank, seed
        self.space, self.sigma_min, self.sigma_max = base.space, base.sigma_min, base.sigma_max
        self.mean, self.std = base.mean, base.std
        self.reset()

    def reset(self) -> None:
        """Forget the scan: once more the base, with the first A."""
        reset(self.changes, self.seed)

    @property
    def trained(self) -> Prior:
        """The base."""
        return self.base

    @property
    def calls(self) -> int:
        """Network calls so far, of the base and of the changed network."""
        return self.base.calls + self.changed.calls

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x_sigma = x] by the changed network."""
        return self.changed.denoise(x, sigma)

    def of_width(self, width: int) -> SteeredPrior:
        """The same changes of the same network, in calls of another width."""
        twin = copy(self)
        base, changed = (p.over(p.net, width) for p in (self.base, self.changed))
        twin._modules = {**self._modules, "base": base, "changed": changed}
        return twin

    def save(self, path: Path, prior_sha256: str) -> None:
        """Write the changes, a few per cent of the network, as safetensors with peft's keys; atomically."""
        facts = {"peft_type": "LORA", "r": self.rank, "lora_alpha": self.rank, "prior_sha256": prior_sha256}
        write_atomic(path, lambda p: save_file(to_peft(self.changes), p, {"adapter": json.dumps(facts)}))

    @classmethod
    def load(cls, path: Path, base: NetworkPrior, prior_sha256: str) -> SteeredPrior:
        """What `save` wrote, for the prior it was made of.

        Raises:
            PriorError: missing, truncated or foreign file, or the changes of another prior.
        """
        try:
            with safe_open(path, framework="pt") as f:
                facts = json.loads((f.metadata() or {}).get("adapter", "{}"))
                tensors = {key: f.get_tensor(key) for key in f.keys()}
        except (SafetensorError, OSError, ValueError) as e:
            raise PriorError(f"{path} is no file of adapted weights ({e}); make one with --save-steer") from e
        if "r" not in facts:
            raise PriorError(f"{path} has no adapted weights; make them with --save-steer")
        if "prior_sha256" not in facts:
            raise PriorError(f"{path} does not say which prior it was adapted from; make it with --save-steer")
        if facts["prior_sha256"] != prior_sha256:
            raise PriorError(f"{path} was adapted from another prior (checksum differs); name that by --prior")
        prior = cls(base, facts["r"])
        from_peft(prior.changes, tensors)
        return prior
