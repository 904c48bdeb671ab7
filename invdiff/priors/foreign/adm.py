"""guided-diffusion (ADM): `input_blocks`, `middle_block`, `output_blocks`."""

from __future__ import annotations

import re
from typing import Any

from invdiff.priors.foreign.base import Context, Family, Found, State, unconditional


def read(state: State, context: Context) -> Found:
    """Everything but the attention's heads and channel order stands in keys and shapes."""
    unconditional(state, "label_emb.weight")
    blocks, levels, by_block, with_conv = _structure(state)
    first = [1 + level * (blocks + 1) for level in range(levels)]
    channels = tuple(state[f"input_blocks.{i}.0.in_layers.2.weight"].shape[0] for i in first)
    stem, embedding = state["input_blocks.0.0.weight"], state[f"input_blocks.{first[0]}.0.emb_layers.1.weight"]
    assumed = _heads(channels, context.arguments) | {"use_new_attention_order": False}
    config = {
        "in_channels": stem.shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "model_channels": state["time_embed.0.weight"].shape[1],
        "channels": channels,
        "num_res_blocks": blocks,
        "attention": tuple(2**level for level, i in enumerate(first) if f"input_blocks.{i}.1.qkv.weight" in state),
        "use_scale_shift_norm": embedding.shape[0] == 2 * channels[0],
        "resblock_updown": by_block,
        "conv_resample": with_conv,
    }
    return Found("adm", config | assumed, state, "vp-eps", assumed=assumed | {"schedule": "linear"})


def _structure(state: State) -> tuple[int, int, bool, bool]:
    """Blocks per level, levels, whether residual blocks resample, whether convolutions do."""
    numbers = {int(m[1]) for k in state if (m := re.match(r"input_blocks\.(\d+)\.", k))}
    total = 1 + max(int(m[1]) for k in state if (m := re.match(r"output_blocks\.(\d+)\.", k)))
    # The way up marks the end of a level by a layer that resamples: behind the block, and the attention if any.
    by_block = _marks(state, r"output_blocks\.(\d+)\.[12]\.in_layers\.0\.weight")
    by_conv = _marks(state, r"output_blocks\.(\d+)\.[12]\.conv\.weight")
    gaps = sorted(set(range(total)) - numbers)  # on the way down, layers without weights leave out a number
    blocks = min(by_block or by_conv or [gap - 1 for gap in gaps] or [total - 1])
    return blocks, total // (blocks + 1), bool(by_block), bool(by_conv) or not gaps


def _marks(state: State, pattern: str) -> list[int]:
    return [int(m[1]) for k in state if (m := re.match(pattern, k))]


def _heads(channels: tuple[int, ...], given: dict[str, Any]) -> dict[str, Any]:
    """64 channels per head, as in all but one of the published models, unless the user counts heads."""
    if "num_heads" in given or any(c % 64 for c in channels):
        return {"num_heads": 4, "num_head_channels": -1}
    return {"num_heads": 4, "num_head_channels": 64}


FAMILY = Family("adm", "input_blocks.0.0.weight", read)
