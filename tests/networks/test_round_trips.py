"""A checkpoint of the original library, converted, saved, verified and read again, denoises as the original does."""

import math

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler, UNet2DModel
from safetensors.torch import load_file

from invdiff.networks import NCSNpp, SongUNet
from invdiff.priors import checkpoints
from invdiff.priors.convert import Choices, convert
from invdiff.space import Space

X = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(1))


def round_trip(source, output, *choices, **how):
    """Convert and bind; the prior, its card and the report."""
    net, card, report = convert(source, *choices, **how)
    checkpoints.save(output, net, card, dtype=None)
    assert checkpoints.verify(output).reference
    prior, card, _ = checkpoints.network_prior(output, Space((1, 16, 24)), dtype=torch.float32)
    return prior, card, report


def clean(scheduler, net, index):
    """The original's x_0 for x_t = X, and the noise level and input that ask the prior for the same."""
    # diffusers multiplies its betas in float32, which blurs noise levels by up to a part in a thousand.
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
    kept = scheduler.alphas_cumprod[index]
    out = net(X, torch.full((2,), index))
    want = scheduler.step(out[:, :1].double(), index, X.double(), generator=torch.Generator()).pred_original_sample
    return (X / kept.sqrt()).float(), ((1 - kept) / kept).sqrt().float().expand(2), want.float()


@torch.no_grad()
def test_adm(published_adm, shaken, tmp_path):
    reference = published_adm(
        image_size=16, in_channels=1, out_channels=2, model_channels=32, channel_mult=(1, 2), num_res_blocks=1,
        attention_resolutions=(2,), num_head_channels=32, use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip
    shaken(reference)
    torch.save(reference.state_dict(), tmp_path / "ema_0.9999.pt")
    given = {"num_head_channels": 32}
    prior, card, report = round_trip(tmp_path / "ema_0.9999.pt", tmp_path / "p.safetensors", arguments=given)
    assert report.matched == len(reference.state_dict())
    assert (card.parameterisation, card.schedule, card.units["range"]) == ("vp-eps", "linear", [-1, 1])
    scheduler = DDPMScheduler(clip_sample=False)
    for index in (100, 500, 900):
        z, sigma, want = clean(scheduler, reference, index)
        # at index 900 the network's output is multiplied by 65
        torch.testing.assert_close(prior.denoise(z, sigma), want, atol=1e-5 * float(1 + sigma[0]), rtol=1e-5)


BLOCKS = {
    "sample_size": 16, "in_channels": 1, "out_channels": 1, "block_out_channels": (32, 64), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 16, "attention_head_dim": 32,
}  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@torch.no_grad()
def test_a_diffusers_pipeline(prediction, shaken, tmp_path):
    reference = shaken(UNet2DModel(**BLOCKS))
    scheduler = DDPMScheduler(prediction_type=prediction, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    reference.save_pretrained(tmp_path / "unet")
    scheduler.save_pretrained(tmp_path / "scheduler")
    prior, card, report = round_trip(tmp_path, tmp_path / "p.safetensors")
    assert card.schedule == "cosine"
    assert report.assumed == {}
    for index in (100, 500, 900):
        z, sigma, want = clean(scheduler, lambda x, t: reference(x, t).sample, index)
        torch.testing.assert_close(prior.denoise(z, sigma), want, atol=1e-5 * float(1 + sigma[0]), rtol=1e-5)


@torch.no_grad()
def test_a_diffusers_flow(shaken, tmp_path):
    reference, scheduler = shaken(UNet2DModel(**BLOCKS)), FlowMatchEulerDiscreteScheduler()
    reference.save_pretrained(tmp_path / "unet", safe_serialization=False)
    scheduler.save_pretrained(tmp_path / "scheduler")
    prior, card, _ = round_trip(tmp_path, tmp_path / "p.safetensors")
    assert card.parameterisation == "flow-1000"
    scheduler.set_timesteps(sigmas=[0.6])
    want = scheduler.step(reference(X, scheduler.timesteps).sample, scheduler.timesteps[0], X).prev_sample
    torch.testing.assert_close(prior.denoise(X / 0.4, torch.full((2,), 1.5)), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_old_names_of_diffusers_attention(shaken, tmp_path):
    """As the first published checkpoints have them; diffusers itself renames them while loading."""
    reference = shaken(UNet2DModel(**BLOCKS))
    reference.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for new, name in old.items():
        state = {k.replace(f".{new}.", f".{name}."): v for k, v in state.items()}
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    theirs = UNet2DModel.from_pretrained(tmp_path)
    net, _, _ = convert(tmp_path / "diffusion_pytorch_model.bin")
    label = torch.tensor([3.0, 400.0])
    torch.testing.assert_close(net(X, label), theirs(X, label).sample, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_diffusers_score(shaken, tmp_path):
    config = BLOCKS | {"time_embedding_type": "fourier"}
    reference = shaken(UNet2DModel(**config))
    reference.save_pretrained(tmp_path)
    ScoreSdeVeScheduler(sigma_max=90).save_pretrained(tmp_path)
    prior, card, _ = round_trip(tmp_path, tmp_path / "p.safetensors")
    assert (card.parameterisation, card.sigma_min, card.sigma_max) == ("score", 0.01, 90)
    sigma = torch.tensor([0.3, 2.0])
    want = X + (sigma**2)[:, None, None, None] * reference(X, sigma).sample
    torch.testing.assert_close(prior.denoise(X, sigma), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_ncsnpp_with_a_nameless_average(shaken, tmp_path):
    """score-SDE's own layout: DataParallel's prefix, a buffer of levels, the average as a list."""
    plain, average = (
        shaken(NCSNpp(1, 16, (16, 32), 1, (2,), progressive_input="residual"), seed) for seed in (0, 1)
    )  # fmt: skip
    average.all_modules[0].W.data = plain.all_modules[0].W.data
    sigmas = torch.logspace(math.log10(90), -2, 10)
    model = {"module.sigmas": sigmas} | {f"module.{k}": v for k, v in plain.state_dict().items()}
    shadow = [p.data for p in average.parameters() if p.requires_grad]
    state = {
        "optimizer": {},
        "model": model,
        "ema": {"decay": 0.999, "num_updates": 9, "shadow_params": shadow},
        "step": 9,
    }
    torch.save(state, tmp_path / "checkpoint_9.pth")
    prior, card, report = round_trip(tmp_path / "checkpoint_9.pth", tmp_path / "p.safetensors")
    assert (report.place, report.prefix, report.others) == ("ema.shadow_params", "module.", ["model"])
    assert (card.units["range"], card.mean, card.std) == ([0, 1], 0.5, 0.25)
    assert (card.sigma_min, card.sigma_max) == pytest.approx((0.01, 90))
    sigma = torch.tensor([0.3, 2.0])
    want = X + (sigma**2)[:, None, None, None] * average(X, sigma)
    torch.testing.assert_close(prior.denoise(X, sigma), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrapper", ["edm", "vp-eps", "ve"])
@torch.no_grad()
def test_edm_in_each_wrapper(wrapper, shaken, tmp_path):
    """The formulas of Table 1 of Karras et al. 2022, written out."""
    net = shaken(SongUNet(1, 1, 16, (16, 32), 1, (2,), resolution=16))
    torch.save({f"model.{k}": v for k, v in net.state_dict().items()}, tmp_path / "net.pt")
    choices = Choices(parameterisation=wrapper, schedule="continuous")
    prior, _, _ = round_trip(tmp_path / "net.pt", tmp_path / "p.safetensors", choices)
    sigma = torch.tensor([0.3, 2.0])
    s = sigma[:, None, None, None]
    t = (((0.1**2 + 2 * 19.9 * torch.log(1 + sigma.double() ** 2)).sqrt() - 0.1) / 19.9).float()
    skip, out, scale, label = {
        "edm": (0.25 / (s**2 + 0.25), s * 0.5 / (s**2 + 0.25).sqrt(), 1 / (s**2 + 0.25).sqrt(), sigma.log() / 4),
        "vp-eps": (1, -s, 1 / (1 + s**2).sqrt(), 999 * t),
        "ve": (1, s, 1, (sigma / 2).log()),
    }[wrapper]
    torch.testing.assert_close(prior.denoise(X, sigma), skip * X + out * net(scale * X, label), atol=1e-5, rtol=1e-5)
