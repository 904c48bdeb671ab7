"""EDM (Karras et al. 2022): SongUNet and DhariwalUNet, bare or inside one of its preconditioning wrappers."""

from __future__ import annotations

import re
from typing import Any

from invdiff.priors.foreign.base import Context, Family, Found, State, unconditional

# What each wrapper of the published code makes of the same networks: parameterisation, schedule.
WRAPPERS = {
    "EDMPrecond": ("edm", "linear"),
    "VPPrecond": ("vp-eps", "continuous"),
    "VEPrecond": ("ve", "linear"),
    "iDDPMPrecond": ("vp-eps", "cosine"),
}


def read(state: State, context: Context) -> Found:
    """Everything stands in keys and shapes but the wrapper, which a bare state dict does not name."""
    unconditional(state, "map_label.weight")
    left_out = [k for k in state if k.startswith("map_augment.")]  # training's augmentation labels, absent = zero
    state = {k: v for k, v in state.items() if k not in left_out}
    song = "out_conv.weight" not in state
    config = _common(state) | (_song(state) if song else {"out_channels": state["out_conv.weight"].shape[0]})
    learned = config["out_channels"] == 2 * config["in_channels"]  # only iDDPM's wrapper has a learned variance
    parameterisation, schedule = WRAPPERS.get(context.kind, WRAPPERS["iDDPMPrecond" if learned else "EDMPrecond"])
    assumed = {} if context.kind in WRAPPERS else {"parameterisation": parameterisation}
    name = "songunet" if song else "dhariwalunet"
    return Found(name, config, state, parameterisation, schedule, assumed=assumed, left_out=left_out)


def _common(state: State) -> dict[str, Any]:
    sizes = sorted({int(m[1]) for k in state if (m := re.match(r"enc\.(\d+)x\d+_block0\.", k))}, reverse=True)
    if not sizes:
        raise KeyError("enc.NxN_block0.conv0.weight")
    top = sizes[0]
    width = state["map_layer0.weight"]
    stem = state[f"enc.{top}x{top}_conv.weight"]
    model_channels = width.shape[1] if "out_conv.weight" in state else stem.shape[0]
    return {
        "in_channels": stem.shape[1],
        "model_channels": model_channels,
        "channels": tuple(state[f"enc.{s}x{s}_block0.conv1.weight"].shape[0] for s in sizes),
        "num_blocks": sum(1 for k in state if re.match(rf"enc\.{top}x{top}_block\d+\.conv0\.weight", k)),
        "attention": tuple(top // s for s in sizes if f"enc.{s}x{s}_block0.qkv.weight" in state),
        "channel_mult_emb": width.shape[0] // model_channels,
        "resolution": top,
    }


def _song(state: State) -> dict[str, Any]:
    shown = next(v for k, v in state.items() if k.endswith("_aux_conv.weight"))
    skip = any("_aux_up." in k for k in state)
    stem = next(k for k in state if re.match(r"enc\.\d+x\d+_conv\.weight", k))
    filters = [v for k, v in state.items() if k.endswith("resample_filter")]
    taps = filters[0][0, 0].float().sum(0) if filters else None
    encoder = next((kind for kind in ("skip", "residual") if any(f"_aux_{kind}." in k for k in state)), "standard")
    return {
        "out_channels": shown.shape[0],
        "embedding_type": "fourier" if "map_noise.freqs" in state else "positional",
        "channel_mult_noise": state["map_layer0.weight"].shape[1] // state[stem].shape[0],
        "encoder_type": encoder,
        "decoder_type": "skip" if skip else "standard",
        "resample_filter": (1, 1) if taps is None else tuple(int(t) for t in (taps / taps.min()).round()),
    }


FAMILY = Family("edm", "map_layer0.weight", read)
