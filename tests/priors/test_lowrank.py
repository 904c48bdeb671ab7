"""Low-rank changes of a network's weights: nothing at first, all layers of its blocks after, the base untouched."""

import pytest
import torch
from torch import nn

from invdiff import networks
from invdiff.errors import ConfigError, PriorError
from invdiff.networks import Network
from invdiff.priors.lowrank import PREFIX, adaptable, from_peft, reset, to_peft, with_lowrank

SMALL = {
    "unet": {"in_channels": 1, "channels": [16, 32], "blocks": 1},
    "demodulated": {"channels": [16, 32], "blocks": 1},
    "adm": {"in_channels": 1, "out_channels": 1, "model_channels": 32, "channels": [32, 64], "num_res_blocks": 1,
            "attention": [2], "num_heads": 2, "num_head_channels": -1, "use_scale_shift_norm": True,
            "resblock_updown": True, "conv_resample": True, "use_new_attention_order": False},
    "ncsnpp": {"in_channels": 1, "nf": 16, "channels": [16, 32], "num_res_blocks": 1, "attention": [2]},
    "songunet": {"in_channels": 1, "out_channels": 1, "model_channels": 16, "channels": [16, 32], "num_blocks": 1,
                 "attention": [2], "resolution": 16},
    "diffusersunet2d": {"in_channels": 1, "out_channels": 1, "sample_size": 16, "block_out_channels": [32, 64],
                        "layers_per_block": 1, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
                        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]},
}  # fmt: skip


def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = networks.build(name, SMALL[name]).eval().requires_grad_(False)
        for p in net.parameters():  # blocks begin as the identity: nothing would be seen through them
            p.copy_(0.1 * torch.randn_like(p) + p)
    return net


def call(net):
    x = torch.randn(2, net.config["in_channels"], 16, 16, generator=torch.Generator().manual_seed(1))
    return net(x, torch.tensor([0.3, 0.7]))


@pytest.mark.parametrize("name", SMALL)
def test_fresh_changes_are_none_bit_for_bit(name):
    net = network(name)
    twin, changes = with_lowrank(net, rank=2)
    reset(changes, seed=0)
    assert torch.equal(call(twin), call(net))


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_of_the_blocks_takes_part_and_no_other(name):
    """One step on any loss moves every B; the stem, the head and the label's own layers have none."""
    net = network(name)
    twin, changes = with_lowrank(net, rank=2)
    reset(changes, seed=0)
    call(twin).square().sum().backward()
    assert all(float(c.B.grad.abs().max()) > 0 for c in changes.values())
    assert {n.replace("/", ".") for n in changes} == set(adaptable(net))
    inside = {n for n, m in net.named_modules() if isinstance(m, net.adaptable)}
    assert all(any(layer.startswith(block) for block in inside) for layer in adaptable(net))
    assert not any(p.requires_grad for p in net.parameters())


def test_the_base_is_not_written():
    net = network("unet")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    reference = call(net)
    twin, changes = with_lowrank(net, rank=2)
    reset(changes, seed=0)
    optimiser = torch.optim.Adam(changes.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        call(twin).square().sum().backward()
        optimiser.step()
    assert not torch.equal(call(twin), reference)
    assert torch.equal(call(net), reference)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    shared = {p.data_ptr() for p in net.parameters()}
    assert {p.data_ptr() for n, p in twin.named_parameters() if not n.endswith((".A", ".B"))} == shared


def test_a_change_of_a_convolution_is_a_path_of_two():
    """W + B A: a k x k convolution to r channels, then one of 1 x 1."""
    net = network("unet")
    twin, changes = with_lowrank(net, rank=2)
    reset(changes, seed=0)
    name = next(n for n in changes if n.endswith("conv1"))
    change = changes[name]
    with torch.no_grad():
        change.B.copy_(torch.randn(change.B.shape, generator=torch.Generator().manual_seed(2)))
    layer, other = net.get_submodule(name.replace("/", ".")), twin.get_submodule(name.replace("/", "."))
    x = torch.randn(1, layer.in_channels, 6, 5, generator=torch.Generator().manual_seed(3))
    path = nn.functional.conv2d(nn.functional.conv2d(x, change.A, padding=1), change.B)
    torch.testing.assert_close(other(x), layer(x) + path, atol=1e-5, rtol=1e-5)


def test_reset_begins_again_from_the_seed():
    _, changes = with_lowrank(network("unet"), rank=2)
    reset(changes, seed=0)
    first = {k: v.clone() for k, v in to_peft(changes).items()}
    reset(changes, seed=1)
    assert not all(torch.equal(v, first[k]) for k, v in to_peft(changes).items())
    reset(changes, seed=0)
    assert all(torch.equal(v, first[k]) for k, v in to_peft(changes).items())
    A = torch.cat([v.flatten() for k, v in first.items() if "lora_A" in k])
    assert float(A.std()) == pytest.approx(0.5, rel=0.05), "1 / r"
    assert all(not v.any() for k, v in first.items() if "lora_B" in k)


def test_keys_are_those_of_peft():
    _, changes = with_lowrank(network("unet"), rank=2)
    reset(changes, seed=3)
    tensors = to_peft(changes)
    key = PREFIX + "down.1.0.conv1"
    assert tensors[f"{key}.lora_A.weight"].shape == (2, 32, 3, 3)
    assert tensors[f"{key}.lora_B.weight"].shape == (32, 2, 1, 1)
    _, others = with_lowrank(network("unet"), rank=2)
    from_peft(others, tensors)
    assert all(torch.equal(v, tensors[k]) for k, v in to_peft(others).items())
    _, wider = with_lowrank(network("unet"), rank=3)
    with pytest.raises(PriorError, match=r"are of another network or rank \(see base_model.model.*lora_A.weight\)"):
        from_peft(wider, tensors)


def test_a_rank_above_a_layer_names_the_layer():
    with pytest.raises(ConfigError, match=r"rank 17 is more than the 16 channels of layer down.0.0.conv1; lower it"):
        with_lowrank(network("unet"), rank=17)


def test_a_network_without_blocks_is_refused():
    class Plain(Network):
        def __init__(self):
            super().__init__()
            self.config, self.multiple_of = {"in_channels": 1}, 1
            self.layer = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, label):
            return self.layer(x)

    with pytest.raises(PriorError, match="Plain has no residual or attention blocks to adapt; choose another prior"):
        with_lowrank(Plain(), rank=1)
