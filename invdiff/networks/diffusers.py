"""UNet2DModel of the diffusers library, as it is; needs the extra `invdiff[diffusers]`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Self

from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.networks.base import Network


class DiffusersUNet2D(Network):
    """A door to `diffusers.UNet2DModel`, unconditional.

    Args:
        in_channels: of the image.
        arguments: the model's other arguments, as in its config.json.

    Raises:
        ConfigError: diffusers is not installed.
    """

    def __init__(self, in_channels: int, **arguments: Any) -> None:  # noqa: ANN401 - whatever diffusers takes
        super().__init__()
        try:
            model = import_module("diffusers").UNet2DModel
        except ImportError as e:
            raise ConfigError("this prior needs the diffusers library; `pip install 'invdiff[diffusers]'`") from e
        listed = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
        self.config = {"in_channels": in_channels, **listed}
        self.net = model(in_channels=in_channels, **arguments)
        models = import_module("diffusers.models")
        self.adaptable = (models.resnet.ResnetBlock2D, models.attention_processor.Attention)  # type: ignore[misc]
        self.multiple_of = 2 ** (len(self.net.config.down_block_types) - 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Random frequencies of the label, where there are any, stay in float32 (`layers.Precise`)."""
        kept = {name: tensor.detach() for name, tensor in self.net.time_proj.state_dict().items()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in self.net.time_proj.state_dict(keep_vars=True).items():
            tensor.data = kept[name].to(tensor.device)
        return self

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) and a noise label (B,) to (B, C', H, W)."""
        return self.net(x, label, return_dict=False)[0]
