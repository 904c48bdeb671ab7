"""Foreign checkpoints: the architecture read off keys and shapes, every file that cannot be used refused."""

import json
import pickle
import sys
import types

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

from invdiff import networks
from invdiff.errors import ConfigError, PriorError
from invdiff.networks import ADM, DhariwalUNet, NCSNpp, SongUNet
from invdiff.priors import checkpoints
from invdiff.priors.convert import Choices, PickleWarning, convert

ADM_CONFIG = {"in_channels": 1, "out_channels": 2, "model_channels": 32, "channels": (32, 64), "num_res_blocks": 1}
NETS = {
    "adm, blocks resample": lambda: ADM(**ADM_CONFIG, attention=(2,), resblock_updown=True),
    "adm, convolutions resample": lambda: ADM(**ADM_CONFIG, attention=(1, 2), use_scale_shift_norm=False),
    "adm, no weights resample": lambda: ADM(**ADM_CONFIG | {"num_res_blocks": 2}, conv_resample=False),
    "adm, one level": lambda: ADM(**ADM_CONFIG | {"channels": (64,), "num_res_blocks": 2}, num_head_channels=64),
    "adm, half width first": lambda: ADM(**ADM_CONFIG | {"model_channels": 64, "channels": (32, 64, 64)}),
    "ddpm++": lambda: SongUNet(1, 1, 16, (16, 32), 2, (2,), resolution=32),
    "edm's ncsn++": lambda: SongUNet(
        2, 2, 16, (16, 32, 32), 1, (1, 4), "fourier", 2, 4, "residual", "standard", (1, 3, 3, 1), 256
    ),
    "edm, skips": lambda: SongUNet(1, 1, 16, (32, 16), 1, (), "positional", 1, 2, "skip", "skip"),
    "dhariwal": lambda: DhariwalUNet(1, 1, 64, (64, 128), 1, (2,), resolution=16),
    "ncsn++": lambda: NCSNpp(1, 16, (16, 32, 32), 2, (2,), progressive_input="residual"),
    "ncsn++, skips": lambda: NCSNpp(
        2, 16, (16, 32), 1, (1,), progressive_input="input_skip", progressive="output_skip"
    ),
    "ncsn++, joined": lambda: NCSNpp(2, 16, (16, 32), 1, progressive_input="input_skip", progressive_combine="cat"),
    "score-SDE's ddpm++": lambda: NCSNpp(
        1, 16, (16, 16), 1, (2,), "positional", fir=False, scale_by_sigma=False, centered=True
    ),
}  # fmt: skip


def small():
    return ADM(**ADM_CONFIG)


@pytest.mark.parametrize("case", NETS)
def test_architectures_are_read_off_keys_and_shapes(case, tmp_path):
    net = NETS[case]()
    torch.save(net.state_dict(), tmp_path / "x.pt")
    back, card, report = convert(tmp_path / "x.pt")
    assert back.config == net.config == card.config
    assert type(back) is type(net)
    assert report.matched == len(net.state_dict())
    for name, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)


def test_what_is_assumed_is_said_and_can_be_corrected(tmp_path):
    net = ADM(**ADM_CONFIG, num_heads=2, use_new_attention_order=True)
    torch.save(net.state_dict(), tmp_path / "x.pt")
    _, card, report = convert(tmp_path / "x.pt")
    assert report.assumed == {
        "num_heads": 4, "num_head_channels": -1, "use_new_attention_order": False, "schedule": "linear"
    }  # fmt: skip
    assert card.config["num_heads"] == 4
    given = {"num_heads": 2, "use_new_attention_order": True}
    back, card, report = convert(tmp_path / "x.pt", Choices(schedule="cosine"), arguments=given)
    assert back.config == net.config
    assert report.assumed == {"num_head_channels": -1}
    assert card.schedule == "cosine"


def test_iddpms_wrapper_is_known_by_its_learned_variance(tmp_path):
    net = DhariwalUNet(1, 2, 64, (64, 64), 1)
    state = {f"model.{k}": v for k, v in net.state_dict().items()} | {"u": torch.zeros(1001)}
    save_file(state | {"model.map_augment.weight": torch.zeros(64, 9)}, tmp_path / "x.safetensors")
    _, card, report = convert(tmp_path / "x.safetensors")
    assert (card.parameterisation, card.schedule, card.channels) == ("vp-eps", "cosine", 1)
    assert sorted(report.left_out) == ["map_augment.weight", "u"]
    assert report.assumed == {"parameterisation": "vp-eps"}


def test_moving_averages_are_preferred(tmp_path):
    plain, average = small(), small()
    content = {"state_dict": plain.state_dict(), "step": 9, "ema_state_dict": average.state_dict()}
    torch.save(content, tmp_path / "x.ckpt")
    net, _, report = convert(tmp_path / "x.ckpt")
    assert (report.place, report.others) == ("ema_state_dict", ["state_dict"])
    assert torch.equal(net.out[2].weight, average.out[2].weight)
    both = {f"model.{k}": v for k, v in plain.state_dict().items()}
    both |= {f"model_ema.{k}": v for k, v in average.state_dict().items()}
    torch.save({"state_dict": both}, tmp_path / "y.ckpt")
    net, _, report = convert(tmp_path / "y.ckpt")
    assert (report.place, report.prefix) == ("state_dict", "model_ema.")
    assert len(report.left_out) == len(plain.state_dict())
    assert torch.equal(net.out[2].weight, average.out[2].weight)


def test_the_card(tmp_path):
    torch.save(small().state_dict(), tmp_path / "head.pt")
    choices = Choices("vp-v", "cosine:steps=500", (0.0, 2.0), (-1000.0, 1000.0), 0.7, 0.4, "head-ct", "CC0")
    net, card, _ = convert(tmp_path / "head.pt", choices)
    assert (card.name, card.licence, card.mean, card.std) == ("head-ct", "CC0", 0.7, 0.4)
    assert card.units == {"window": (-1000.0, 1000.0), "range": (0.0, 2.0)}
    assert card.note.startswith("Research use only. Converted from head.pt (adm, the file's only level), sha256 ")
    assert 0.0 < card.sigma_min < 0.02
    checkpoints.save(tmp_path / "p.safetensors", net, card, dtype=None)
    assert checkpoints.units(checkpoints.verify(tmp_path / "p.safetensors")).window == (-1000, 1000)
    _, plain, _ = convert(tmp_path / "head.pt")
    assert (plain.name, plain.licence, plain.mean, plain.std) == ("head", "unknown", 0, 0.5)
    assert plain.units == {"window": None, "range": (-1.0, 1.0)}


def test_weights_keep_every_bit(tmp_path):
    net = small()
    torch.save(net.state_dict(), tmp_path / "x.pt")
    checkpoints.save(tmp_path / "p.safetensors", *convert(tmp_path / "x.pt")[:2], dtype=None)
    back, _ = checkpoints.load(tmp_path / "p.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), back.parameters(), strict=True))
    checkpoints.save(tmp_path / "q.safetensors", *convert(tmp_path / "x.pt")[:2])
    back, _ = checkpoints.load(tmp_path / "q.safetensors")
    assert not torch.equal(net.out[2].weight, back.out[2].weight)


def drop(*keys, **changes):
    state = small().state_dict() | changes
    return {k: v for k, v in state.items() if k not in keys}


def cut(path):
    torch.save(small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-999])


FILES = {
    "missing": ("x.pt", lambda p: None, "no checkpoint at .*x.pt; name a file, or a folder"),
    "cut": ("x.pt", cut, "is not a readable checkpoint .*; it may be truncated, get it again"),
    "text": ("x.pth", lambda p: p.write_text("weights"), "is not a checkpoint of torch; it may be damaged, get it"),
    "text as safetensors": ("x.safetensors", lambda p: p.write_text("w"), "is not a readable safetensors file .*trunc"),
    "ending": ("x.h5", lambda p: p.write_text("w"), "checkpoints end in .safetensors, .pt, .pth, .bin, .ckpt, .pkl"),
    "empty folder": ("x", lambda p: p.mkdir(), "is a folder without diffusion_pytorch_model.safetensors or .*bin"),
    "no tensors": ("x.pt", lambda p: torch.save({"step": 3}, p), "holds no named tensors; save the network"),
    "list": ("x.pt", lambda p: torch.save([torch.zeros(2)], p), "holds no named tensors"),
    "another network": (
        "x.pt",
        lambda p: torch.save({f"layer{i}": torch.zeros(2) for i in range(12)}, p),
        r"of no known family: no key ends in input_blocks.0.0.weight \(adm\) or .*; it holds layer0, .*layer9, ... \(2",
    ),
    "a key less": (
        "x.pt",
        lambda p: torch.save(drop("middle_block.1.norm.bias"), p),
        "does not fit the adm that its keys show; 1 missing: middle_block.1.norm.bias; correct the architecture",
    ),
    "keys more": (
        "x.pt",
        lambda p: torch.save(drop(**{f"extra{i:02}": torch.zeros(1) for i in range(13)}), p),
        r"13 unexpected: extra00, .*, extra09, ... \(3 more\); correct",
    ),
    "a shape": (
        "x.pt",
        lambda p: torch.save(drop(**{"out.0.bias": torch.zeros(5)}), p),
        r"1 of another shape: out.0.bias: \(5,\), the network has \(32,\)",
    ),
    "not a number": (
        "x.pt",
        lambda p: torch.save(drop(**{"out.0.bias": torch.full((32,), torch.nan)}), p),
        "holds NaN or infinite weights in out.0.bias; take another checkpoint of the run",
    ),
    "the skeleton gone": (
        "x.pt",
        lambda p: torch.save(drop("time_embed.0.weight"), p),
        "looks like adm, but what should tell the architecture is missing .*time_embed.0.weight",
    ),
    "no way up": (
        "x.pt",
        lambda p: torch.save({k: v for k, v in small().state_dict().items() if "output_b" not in k}, p),
        "looks like adm, but what should tell the architecture is missing",
    ),
    "classes": ("x.pt", lambda p: torch.save(drop(**{"label_emb.weight": torch.zeros(9, 8)}), p), "class-conditional"),
    "classes, edm": (
        "x.pt",
        lambda p: torch.save(SongUNet(1, 1, 16, (16,), 1).state_dict() | {"map_label.weight": torch.zeros(3, 3)}, p),
        r"class-conditional \(it has map_label.weight\); invdiff's priors take no class",
    ),
    "edm, no levels": ("x.pt", lambda p: torch.save({"map_layer0.weight": torch.zeros(3, 3)}, p), "looks like edm"),
    "plain resampling": (
        "x.pt",
        lambda p: torch.save(NETS["ncsn++"]().state_dict() | {"all_modules.9.Conv_0.weight": torch.zeros(3, 3, 3, 3)}
                             | {"all_modules.99.Conv_0.weight": torch.zeros(3, 3, 3, 3)}, p),
        r"resamples by plain convolutions \(resblock_type ddpm\); invdiff reads BigGAN blocks",
    ),
    "diffusers, no config": ("x.pt", lambda p: torch.save({"conv_in.weight": torch.zeros(3)}, p), "needs its config"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files_that_cannot_be_used(case, tmp_path):
    name, write, message = FILES[case]
    write(tmp_path / name)
    with pytest.raises(PriorError, match=message):
        convert(tmp_path / name)


CONFIG = {"_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1, "block_out_channels": [32, 32],
          "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2,
          "layers_per_block": 1}  # fmt: skip
SCHEDULER = {"_class_name": "DDPMScheduler"}
DIFFUSERS = {
    "conditional": (CONFIG | {"_class_name": "UNet2DConditionModel"}, SCHEDULER, "describes a UNet2DConditionModel"),
    "classes": (CONFIG | {"num_class_embeds": 3}, SCHEDULER, "is class-conditional"),
    "own table": (CONFIG, SCHEDULER | {"trained_betas": [0.1]}, "a noise table of its own .*; give --schedule"),
    "zero snr": (CONFIG, SCHEDULER | {"rescale_betas_zero_snr": True}, "a noise table of its own"),
    "sigmoid": (
        CONFIG,
        SCHEDULER | {"beta_schedule": "sigmoid"},
        "epsilon prediction on sigmoid betas is not known; give",
    ),
    "other blocks": (CONFIG | {"down_block_types": ["Down"] * 2}, SCHEDULER, "no network with .*Down.*correct it with"),
}


@pytest.mark.parametrize("case", DIFFUSERS)
def test_diffusers_configs_that_cannot_be_used(case, tmp_path):
    config, scheduler, message = DIFFUSERS[case]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(scheduler))
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises((PriorError, ConfigError), match=message):
        convert(tmp_path)


def test_a_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text("{")
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(PriorError, match=r"config\.json is no JSON mapping .*; get it again"):
        convert(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("betas", "schedule"),
    [
        ({}, "linear"),
        ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, "scaled_linear"),
        ({"beta_schedule": "scaled_linear"}, "scaled_linear:beta_min=0.0001,beta_max=0.02"),
        ({"num_train_timesteps": 4000, "beta_end": 0.005}, "linear:steps=4000,beta_min=0.0001,beta_max=0.005"),
        ({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500}, "cosine:steps=500"),
    ],
)
def test_noise_tables_of_diffusers(betas, schedule, tmp_path):
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in CONFIG.items() if k != "_class_name"}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(SCHEDULER | betas))
    save_file(UNet2DModel(**arguments).state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    _, card, _ = convert(tmp_path)
    assert (card.architecture, card.schedule, card.config) == ("diffusersunet2d", schedule, arguments)
    assert card.sigma_max > 10


def test_without_diffusers(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"needs the diffusers library; `pip install 'invdiff\[diffusers\]'`"):
        networks.build("diffusersunet2d", {"in_channels": 1})


ARGUMENTS = {
    "family": ({"family": "amd"}, "no family 'amd'; did you mean 'adm'"),
    "argument": ({"arguments": {"num_head": 2}}, "ADM has no argument 'num_head'; did you mean 'num_heads'"),
    "nonsense": ({"arguments": {"colour": 2}}, "ADM has no argument 'colour'; there are: in_channels, .*num_heads"),
    "heads": (
        {"arguments": {"model_channels": "wide"}},
        "no network with .*model_channels=wide.*; correct it with --set",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_that_do_not_exist(case, tmp_path):
    how, message = ARGUMENTS[case]
    torch.save(small().state_dict(), tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=message):
        convert(tmp_path / "x.pt", **how)


CHOICES = {
    "range": (Choices(range=(1.0, -1.0)), "range 1 to -1 must ascend"),
    "std": (Choices(std=0.0), "std 0 be > 0; correct"),
    "window": (Choices(window=(5.0, 5.0)), "window 5 to 5 must ascend; give the lower value first"),
    "parameterisation": (Choices(parameterisation="eps"), "'eps' is unknown; there are: edm, vp-eps"),
    "schedule": (Choices(schedule="quadratic"), "'quadratic' is unknown; there are: linear"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices_that_cannot_be(case, tmp_path):
    choices, message = CHOICES[case]
    torch.save(small().state_dict(), tmp_path / "x.pt")
    with pytest.raises((ConfigError, PriorError), match=message):
        convert(tmp_path / "x.pt", choices)


def test_heads_that_do_not_divide_are_refused(tmp_path):
    torch.save(small().state_dict(), tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"no network with .*num_heads=3.*64 channels do not divide into 3 heads"):
        convert(tmp_path / "x.pt", arguments={"num_heads": 3})


class Stranger:
    """An object that only pickle can bring back."""


def test_pickled_objects_need_permission(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"ema": small().state_dict(), "config": Stranger()}, path)
    with pytest.raises(PriorError, match=r"pickled objects, not only tensors; --allow-pickle .* runs whatever code"):
        convert(path)
    with pytest.warns(PickleWarning, match="unpickling runs whatever code the file's author put in"):
        _, _, report = convert(path, allow_pickle=True)
    assert report.place == "ema"


@pytest.fixture
def published_code(monkeypatch):
    """A module that stands for the code base which wrote a pickle: EDM's wrapper by its name."""
    module = types.ModuleType("edm_networks")

    class VPPrecond(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.model = net

    VPPrecond.__module__, VPPrecond.__qualname__ = "edm_networks", "VPPrecond"
    module.VPPrecond = VPPrecond
    monkeypatch.setitem(sys.modules, "edm_networks", module)
    return module


def test_a_pickled_network(tmp_path, published_code, monkeypatch):
    net, path = SongUNet(1, 1, 16, (16, 16), 1), tmp_path / "edm.pkl"
    path.write_bytes(pickle.dumps({"ema": published_code.VPPrecond(net), "loss_fn": None}))
    with pytest.raises(
        PriorError, match=r"a pickle of the network itself; --allow-pickle .*original code.*Better save"
    ):
        convert(path)
    with pytest.warns(PickleWarning):
        back, card, report = convert(path, allow_pickle=True)
    assert back.config == net.config
    assert (card.parameterisation, card.schedule, report.place, report.assumed) == ("vp-eps", "continuous", "ema", {})
    monkeypatch.delitem(sys.modules, "edm_networks")
    with (
        pytest.warns(PickleWarning),
        pytest.raises(
            PriorError, match=r"needs the code that wrote it \(No module named 'edm_networks'\); put that on"
        ),
    ):
        convert(path, allow_pickle=True)


def test_a_pickle_never_runs_unasked(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    for name, write in (
        ("x.pkl", lambda p: p.write_bytes(pickle.dumps(Bomb()))),
        ("x.pt", lambda p: torch.save(Bomb(), p)),
    ):
        write(tmp_path / name)
        with pytest.raises(PriorError, match="--allow-pickle"):
            convert(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "y.pkl").write_bytes(b"no pickle")
    with (
        pytest.warns(PickleWarning),
        pytest.raises(PriorError, match=r"cannot be unpickled \(.*\); get the file again"),
    ):
        convert(tmp_path / "y.pkl", allow_pickle=True)
