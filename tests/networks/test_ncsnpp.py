"""NCSN++ against diffusers' port of it; EDM's SongUNet against NCSN++; each layer list walked in the order of use."""

import json
import math

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.downsampling import FirDownsample2D

from invdiff import networks
from invdiff.networks import NCSNpp, SongUNet
from invdiff.networks.ncsnpp import Attention, Block, FirConv
from invdiff.networks.songunet import Block as SongBlock

G = torch.Generator()


@pytest.fixture(autouse=True)
def _numbers():
    """Of each test its own, whatever ran before."""
    G.manual_seed(3)


def fill(module, source, names):
    """Load a module from another one's parameters, by a map of names."""
    state = {}
    for theirs, value in source.named_parameters():
        name, kind = theirs.rsplit(".", 1) if "." in theirs else ("", theirs)
        if name in names:
            state[".".join(filter(None, (names[name], kind)))] = value
    module.load_state_dict(state)


def nin(attention, qkv, proj):
    """Three matrices and biases of an attention, and the last."""
    for i, (weight, bias) in enumerate([*qkv, proj]):
        layer = getattr(attention, f"NIN_{i}")
        layer.W.data, layer.b.data = weight.T.clone(), bias.clone()


RESNET = {"norm1": "GroupNorm_0", "conv1": "Conv_0", "time_emb_proj": "Dense_0", "norm2": "GroupNorm_1",
          "conv2": "Conv_1", "conv_shortcut": "Conv_2"}  # fmt: skip


def port(theirs):
    """The layers of a diffusers model in the order of use; None for those without weights."""
    yield from (theirs.time_embedding.linear_1, theirs.time_embedding.linear_2, theirs.conv_in)
    for block in theirs.down_blocks:
        attentions = getattr(block, "attentions", [None] * len(block.resnets))
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            yield from (resnet, attention) if attention is not None else (resnet,)
        if block.resnet_down is not None:
            yield from (block.resnet_down, None, block.skip_conv)
    yield from (theirs.mid_block.resnets[0], theirs.mid_block.attentions[0], theirs.mid_block.resnets[1])
    for i, block in enumerate(theirs.up_blocks):
        yield from block.resnets
        yield from getattr(block, "attentions", [])
        if i > 0:
            yield None
        last = block.resnet_up is None
        yield from (theirs.conv_norm_out, theirs.conv_out) if last else (block.skip_norm, block.skip_conv)
        yield from [] if last else [block.resnet_up]


def test_ncsnpp_is_diffusers_port_of_it(shaken):
    theirs = shaken(
        UNet2DModel(
            sample_size=16, in_channels=3, out_channels=3, center_input_sample=True, time_embedding_type="fourier",
            down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"),
            up_block_types=("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"), block_out_channels=(64, 128, 128),
            layers_per_block=1, mid_block_scale_factor=math.sqrt(2), attention_head_dim=None, norm_num_groups=None,
            norm_eps=1e-6,
        )
    )  # fmt: skip
    ours = NCSNpp(3, 64, (64, 128, 128), 1, (2,), progressive_input="input_skip", progressive="output_skip").eval()
    ours.all_modules[0].W.data = theirs.time_proj.weight.data
    layers = list(port(theirs))
    for layer, source in zip(ours.all_modules[1:], layers, strict=True):
        if isinstance(layer, Block):
            fill(layer, source, RESNET)
        elif isinstance(layer, Attention):
            fill(layer.GroupNorm_0, source.group_norm, {"": ""})
            qkv = [(p.weight.data, p.bias.data) for p in (source.to_q, source.to_k, source.to_v)]
            nin(layer, qkv, (source.to_out[0].weight.data, source.to_out[0].bias.data))
        elif source is not None:
            fill(getattr(layer, "Conv", layer), source, {"": ""})
    x, sigma = torch.rand(2, 3, 16, 24, generator=G), torch.tensor([0.3, 7.0])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, sigma), theirs(x, sigma).sample, atol=1e-5, rtol=1e-5)


def test_the_residual_pyramid_is_diffusers(shaken):
    theirs = shaken(FirDownsample2D(8, 12, use_conv=True))
    ours = FirConv(8, 12, (1, 3, 3, 1))
    fill(ours, theirs, {"Conv2d_0": "Conv2d_0"})
    x = torch.randn(2, 8, 10, 16, generator=G)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


SONG = {"norm0": "GroupNorm_0", "conv0": "Conv_0", "affine": "Dense_0", "norm1": "GroupNorm_1", "conv1": "Conv_1",
        "skip": "Conv_2"}  # fmt: skip
SETTINGS = {
    "NCSN++": ({"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual",
                "resample_filter": (1, 3, 3, 1)}, {"progressive_input": "residual"}),
    "DDPM++": ({}, {"embedding_type": "positional", "fir": False}),
    "both skip": ({"encoder_type": "skip", "decoder_type": "skip", "resample_filter": (1, 3, 3, 1)},
                  {"embedding_type": "positional", "progressive_input": "input_skip", "progressive": "output_skip"}),
}  # fmt: skip


def walk(song):
    """The layers of a SongUNet in the order of use."""
    yield from (song.map_layer0, song.map_layer1)
    for layer in [*song.enc.values(), *song.dec.values()]:
        yield layer
        if isinstance(layer, SongBlock) and layer.heads:
            yield layer


@pytest.mark.parametrize("setting", SETTINGS)
def test_songunet_is_ncsnpp(setting, shaken):
    theirs, ours = SETTINGS[setting]
    shape = ((16, 32, 32), 2, (2,))
    song = shaken(SongUNet(1, 1, 16, *shape, **theirs))
    net = NCSNpp(1, 16, *shape, **ours, centered=True, scale_by_sigma=False).eval()
    modules = list(net.all_modules)
    if net.config["embedding_type"] == "fourier":
        modules.pop(0).W.data = song.map_noise.freqs
    for layer, source in zip(modules, walk(song), strict=True):
        if isinstance(layer, Block):
            fill(layer, source, SONG)
        elif isinstance(layer, Attention):
            fill(layer.GroupNorm_0, source.norm2, {"": ""})
            weight, bias = source.qkv.weight.data[..., 0, 0].unflatten(0, (-1, 3)), source.qkv.bias.data.view(-1, 3)
            qkv = [(weight[:, i], bias[:, i]) for i in range(3)]
            nin(layer, qkv, (source.proj.weight.data[..., 0, 0], source.proj.bias.data))
        elif list(layer.parameters()):
            state = {k: v for k, v in source.state_dict().items() if k != "resample_filter"}
            inner = next((getattr(layer, n) for n in ("Conv", "Conv2d_0") if hasattr(layer, n)), layer)
            inner.load_state_dict(state)
    x, label = torch.randn(2, 1, 8, 12, generator=G), torch.tensor([0.4, 2.5])
    mine = label.exp() if net.config["embedding_type"] == "fourier" else label
    with torch.no_grad():
        torch.testing.assert_close(song(x, label), net(x, mine), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "net"),
    [
        ("ncsnpp", NCSNpp(2, 16, (16, 16), 1, (2,), progressive_input="input_skip", progressive_combine="cat")),
        ("ncsnpp", NCSNpp(2, 16, (16, 32), 1, skip_rescale=False)),
        ("songunet", SongUNet(2, 2, 16, (16, 16), 1, (1,))),
        ("dhariwalunet", networks.DhariwalUNet(2, 4, 16, (16, 16), 1, (1,))),
    ],
)
def test_any_size_in_any_precision_from_a_config(name, net, shaken):
    shaken(net)
    again = networks.build(name, json.loads(json.dumps(net.config))).eval()
    again.load_state_dict(net.state_dict())
    x, label = torch.rand(2, 2, 6, 10, generator=G), torch.tensor([0.4, 2.5])
    with torch.no_grad():
        out = again(x, label)
        torch.testing.assert_close(out, net.eval()(x, label))
        low = again.to(torch.bfloat16)(x.bfloat16(), label)
    assert out.shape[2:] == x.shape[2:]
    assert low.dtype == torch.bfloat16
    assert float((low.float() - out).norm() / out.norm()) < 0.05


SCORE = {
    "in_channels": 1, "out_channels": 1, "block_out_channels": (32, 32), "time_embedding_type": "fourier",
    "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda: NCSNpp(1, 32, (32, 32), 1),
        lambda: SongUNet(1, 1, 32, (32, 32), 1, (), "fourier", 2),
        lambda: networks.DiffusersUNet2D(**SCORE),
    ],
)
def test_random_frequencies_survive_bfloat16(make, shaken):
    """Rounded to bfloat16, a frequency of 40 turns the phase of label 3 by a radian."""
    net = make()
    key = next(k for k in net.state_dict() if k.endswith((".W", "freqs", "time_proj.weight")))
    frequencies = net.state_dict()[key]
    values = torch.linspace(-40, 40, len(frequencies))
    shaken(net)
    frequencies.copy_(values)
    x, label = torch.randn(2, 1, 16, 16, generator=G), torch.tensor([0.3, 3.0])
    with torch.no_grad():
        want = net(x, label)
        got = net.to(torch.bfloat16)(x.bfloat16(), label).float()
    assert float((got - want).norm() / want.norm()) < 0.03
    assert net.state_dict()[key].dtype == torch.float32
