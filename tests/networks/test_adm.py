"""ADM and DhariwalUNet against the published network, and against each other."""

import json

import pytest
import torch

from invdiff import networks
from invdiff.networks import ADM, DhariwalUNet
from invdiff.priors.foreign import FAMILIES, Context

WIDTH = {"model_channels": 32, "num_res_blocks": 1}
CASES = {
    "blocks resample, learned variance": (
        {"channel_mult": (1, 2, 2), "num_head_channels": 16, "resblock_updown": True, "use_scale_shift_norm": True},
        {"out_channels": 2, "attention": (2, 4)},
    ),
    "convolutions resample, added label": (
        {"channel_mult": (1, 2), "num_heads": 2},
        {"out_channels": 1, "attention": (1,)},
    ),
    "no weights resample, new order": (
        {"channel_mult": (2, 1), "num_heads": 4, "conv_resample": False, "use_new_attention_order": True},
        {"out_channels": 2, "attention": (2,)},
    ),
}


def pair(published_adm, shaken, case):
    theirs, shared = CASES[case]
    shared = shared | {"in_channels": 1}
    attention = shared.pop("attention")
    reference = shaken(published_adm(image_size=16, attention_resolutions=attention, **WIDTH, **theirs, **shared))
    theirs = dict(theirs)
    channels = [32 * m for m in theirs.pop("channel_mult")]
    defaults = {"use_scale_shift_norm": False}
    ours = ADM(channels=channels, attention=attention, **WIDTH, **defaults | theirs, **shared)
    return reference, ours


@pytest.mark.parametrize("case", CASES)
def test_adm_is_the_published_network(published_adm, shaken, case):
    reference, ours = pair(published_adm, shaken, case)
    ours.load_state_dict(reference.state_dict())
    x, label = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(1)), torch.tensor([3.0, 981.25])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, label), reference(x, label), atol=1e-5, rtol=1e-5)


def test_adm_hears_what_is_wrong(published_adm, shaken):
    """The comparison above can fail: another head count or channel order changes the answer."""
    reference, _ = pair(published_adm, shaken, "convolutions resample, added label")
    x, label = torch.randn(2, 1, 16, 16), torch.tensor([3.0, 9.0])
    config = {"in_channels": 1, "out_channels": 1, "channels": (32, 64), "attention": (1,), **WIDTH}
    for wrong in ({"num_heads": 1}, {"num_heads": 2, "use_new_attention_order": True}):
        ours = ADM(**config, **wrong, use_scale_shift_norm=False)
        ours.load_state_dict(reference.state_dict())
        with torch.no_grad():
            assert (ours(x, label) - reference(x, label)).abs().max() > 1e-3


def dhariwal_to_adm(state, resolution, levels, blocks):
    """Keys and channel order of EDM's form, brought to the published ones."""
    names = {"norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1", "norm1": "out_layers.0",
             "conv1": "out_layers.3", "skip": "skip_connection"}  # fmt: skip
    attention = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}
    places, n = {f"enc.{resolution}x{resolution}_conv": ("input_blocks.0.0", "")}, 1
    for level in range(levels):
        size = resolution >> level
        if level:
            places[f"enc.{size}x{size}_down"], n = (f"input_blocks.{n}.0", ""), n + 1
        for i in range(blocks):
            places[f"enc.{size}x{size}_block{i}"] = (f"input_blocks.{n}.0", f"input_blocks.{n}.1")
            n += 1
    places[f"dec.{size}x{size}_in0"] = ("middle_block.0", "middle_block.1")
    places[f"dec.{size}x{size}_in1"] = ("middle_block.2", "")
    n, attends = 0, {k.rsplit(".", 2)[0] for k in state if ".qkv." in k}
    for level in reversed(range(levels)):
        size = resolution >> level
        for i in range(blocks + 1):
            places[f"dec.{size}x{size}_block{i}"] = (f"output_blocks.{n}.0", f"output_blocks.{n}.1")
            n += 1
        if level:
            last = 2 if f"dec.{size}x{size}_block{blocks}" in attends else 1
            places[f"dec.{2 * size}x{2 * size}_up"] = (f"output_blocks.{n - 1}.{last}", "")
    fixed = {"map_layer0": "time_embed.0", "map_layer1": "time_embed.2", "out_norm": "out.0", "out_conv": "out.2"}
    out = {}
    for key, value in state.items():
        if "resample_filter" in key:
            continue
        module, kind = key.rsplit(".", 1)
        if module in fixed or module in places:
            out[f"{fixed.get(module) or places[module][0]}.{kind}"] = value
            continue
        block, part = module.rsplit(".", 1)
        if part in attention:
            if part == "qkv":  # EDM: channel by channel q, k, v; published: per head all q, all k, all v
                value = value.reshape(-1, 64, 3, *value.shape[1:]).transpose(1, 2).reshape(value.shape)
            value = value[..., 0] if value.dim() == 4 else value
            out[f"{places[block][1]}.{attention[part]}.{kind}"] = value
        else:
            out[f"{places[block][0]}.{names[part]}.{kind}"] = value
    return out


def test_dhariwal_is_the_published_network_too(published_adm, shaken):
    config = {"in_channels": 1, "out_channels": 1, "model_channels": 128, "channels": (128, 256), "num_blocks": 1}
    ours = shaken(DhariwalUNet(**config, attention=(2,), resolution=16))
    reference = published_adm(
        image_size=16, in_channels=1, out_channels=1, model_channels=128, channel_mult=(1, 2), num_res_blocks=1,
        attention_resolutions=(2,), num_head_channels=64, resblock_updown=True, use_scale_shift_norm=True,
    )  # fmt: skip
    reference.load_state_dict(dhariwal_to_adm(ours.state_dict(), 16, 2, 1))
    x, label = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([-1.2, 0.7])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, label), reference(x, label), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_configs_build_the_same_network_again(published_adm, shaken, case):
    _, ours = pair(published_adm, shaken, case)
    again = networks.build("adm", json.loads(json.dumps(ours.config)))
    again.load_state_dict(ours.state_dict())
    assert again.config == ours.config
    assert ours.multiple_of == 2 ** (len(ours.config["channels"]) - 1)


PUBLISHED = {
    "imagenet, unconditional": {
        "model_channels": 256, "num_res_blocks": 2, "channel_mult": (1, 1, 2, 2, 4, 4),
        "attention_resolutions": (8, 16, 32),
    },
    "ffhq": {
        "model_channels": 128, "num_res_blocks": 1, "channel_mult": (1, 1, 2, 2, 4, 4), "attention_resolutions": (16,)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_are_understood(published_adm, name):
    """The real architectures, without their weights: all keys and shapes, from keys and shapes alone."""
    shape = {"image_size": 256, "in_channels": 3, "out_channels": 6, "num_head_channels": 64}
    how = {"resblock_updown": True, "use_scale_shift_norm": True}
    with torch.device("meta"):
        state = published_adm(**shape, **how, **PUBLISHED[name]).state_dict()
        found = FAMILIES["adm"].read(state, Context())
        ours = networks.build(found.architecture, found.config)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert ours.config["attention"] == PUBLISHED[name]["attention_resolutions"]
    assert (ours.multiple_of, ours.config["num_head_channels"]) == (32, 64)
