"""score-SDE (Song et al. 2021): NCSN++ and DDPM++ with BigGAN blocks, all layers in the list `all_modules`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from invdiff.errors import PriorError
from invdiff.priors.foreign.base import Context, Family, Found, State

Layers = dict[int, dict[str, tuple[int, ...]]]  # shapes of the parameters of each layer


def read(state: State, context: Context) -> Found:
    """The order of layers tells the structure; filters, rescaling and centring have no weights and are assumed."""
    sigmas = state.get("sigmas")
    state = {k: v for k, v in state.items() if k != "sigmas"}
    layers: Layers = defaultdict(dict)
    for key, value in state.items():
        _, number, name = key.split(".", 2)
        layers[int(number)][name] = tuple(value.shape)
    fourier = "W" in layers[0]
    assumed = {"fir": fourier, "skip_rescale": True, "scale_by_sigma": fourier, "centered": not fourier}
    centred = bool(context.arguments.get("centered", assumed["centered"]))
    config = _structure(layers, 3 if fourier else 2)
    config |= {"embedding_type": "fourier" if fourier else "positional", **assumed}
    levels = None if sigmas is None or not fourier else (float(sigmas.min()), float(sigmas.max()))
    kind = ("score", "linear") if fourier else ("vp-eps", "continuous")
    return Found(
        "ncsnpp", config, state, *kind, range=(-1.0, 1.0) if centred else (0.0, 1.0), levels=levels, assumed=assumed,
        left_out=[] if sigmas is None else ["sigmas"],
    )  # fmt: skip


def _structure(layers: Layers, stem: int) -> dict[str, Any]:
    if any("Conv_0.weight" in names and "GroupNorm_0.weight" not in names for names in layers.values()):
        raise PriorError(
            "the network resamples by plain convolutions (resblock_type ddpm); invdiff reads BigGAN blocks"
        )
    blocks = [i for i in sorted(layers) if "GroupNorm_1.weight" in layers[i]]
    resampling = [i for i in blocks if "Conv_2.weight" in layers[i] and _square(layers[i])]
    plain = [i for i in blocks if i not in resampling]
    levels = len(resampling) // 2 + 1
    n = (len(plain) - 2 - levels) // (2 * levels)  # n per level down, n + 1 up, and two in the middle
    first = plain[: n * levels : n]
    combine = next((names["Conv.weight"] for names in layers.values() if "Conv.weight" in names), None)
    residual = any("Conv2d_0.weight" in names for names in layers.values())
    images = sum(1 for names in layers.values() if len(names.get("weight", ())) == 4) - 1
    return {
        "in_channels": layers[stem]["weight"][1],
        "nf": layers[stem]["weight"][0],
        "channels": tuple(layers[i]["Conv_0.weight"][0] for i in first),
        "num_res_blocks": n,
        "attention": tuple(2**level for level, i in enumerate(first) if "NIN_0.W" in layers.get(i + 1, {})),
        "progressive_input": "residual" if residual else "none" if combine is None else "input_skip",
        "progressive": "output_skip" if images > 1 else "none",
        "progressive_combine": "cat" if combine and layers[first[1]]["Conv_0.weight"][1] == 2 * combine[0] else "sum",
    }


def _square(names: dict[str, tuple[int, ...]]) -> bool:
    return names["Conv_0.weight"][0] == names["Conv_0.weight"][1]


def average(model: State, shadow: Sequence[Tensor]) -> State | None:
    """The moving average of score-SDE's checkpoints, which has no names: parameters with a gradient, in order.

    Returns:
        A state dict; None where number or shapes do not fit.
    """
    fixed = ("sigmas", "all_modules.0.W")  # a buffer, and frequencies without gradient
    names = [k for k in model if not k.endswith(fixed)]
    if [tuple(model[k].shape) for k in names] != [tuple(v.shape) for v in shadow]:
        return None
    return model | dict(zip(names, shadow, strict=True))


FAMILY = Family("ncsnpp", "all_modules.1.weight", read)
