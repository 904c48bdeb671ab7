"""Every parameterisation with every noise table gives the same denoiser; the tables and formulas are diffusers'."""

import typing

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler

from invdiff.errors import PriorError
from invdiff.priors import GaussianPrior, NetworkPrior
from invdiff.priors.parameterisation import ADAPTERS, adapter, levels
from invdiff.priors.tables import TABLES, Continuous, table
from invdiff.schedules import ddpm
from invdiff.space import Space

SPACE = Space((1, 4, 5), torch.float64)
VP = [kind for kind, how in ADAPTERS.items() if how.label is None]
CASES = [(kind, schedule) for kind in ADAPTERS for schedule in (TABLES if kind in VP else ("linear",))]


def level(kind, schedule, label):
    """The noise level of a label, the long way round."""
    if kind in VP and schedule == "continuous":
        t = label / 999
        return torch.expm1(0.1 * t + 19.9 * t**2 / 2).sqrt()
    if kind in VP:
        logs = table(schedule).levels.log()
        low = label.long().clamp(max=998)
        return (logs[low] + (label - low) * (logs[low + 1] - logs[low])).exp()
    return {
        "edm": lambda: (4 * label).exp(),
        "flow": lambda: label / (1 - label),
        "flow-1000": lambda: label / (1000 - label),
        "iadb": lambda: 1 / label - 1,
        "score": lambda: label,
        "ve": lambda: 2 * label.exp(),
    }[kind]()


class GaussianNet(torch.nn.Module):
    """The exact network of N(m, c) in each parameterisation, from its closed-form denoiser."""

    config: typing.ClassVar = {"in_channels": 1}
    multiple_of = 1

    def __init__(self, kind, schedule, prior):
        super().__init__()
        self.kind, self.schedule, self.prior = kind, schedule, prior

    def forward(self, x, label):
        kind = self.kind.removesuffix("-1000")
        s = level(self.kind, self.schedule, label)
        s4 = s[:, None, None, None]
        scale = {"edm": (s4**2 + 0.25).sqrt(), "flow": 1 + s4, "iadb": 1 + s4, "score": 1, "ve": 1}
        total = scale.get(kind, (1 + s4**2).sqrt())
        z = x * total
        D = self.prior.denoise(z, s)
        e = (z - D) / s4
        return {
            "edm": lambda: (D - 0.25 / (s4**2 + 0.25) * z) * (s4**2 + 0.25).sqrt() / (0.5 * s4),
            "vp-eps": lambda: e,
            "vp-v": lambda: (e - s4 * D) / total,
            "vp-x0": lambda: D,
            "flow": lambda: e - D,
            "iadb": lambda: D - e,
            "score": lambda: (D - z) / s4**2,
            "ve": lambda: (D - z) / s4,
        }[kind]()


def gaussian():
    return GaussianPrior(torch.full(SPACE.shape, 0.3).double(), torch.tensor(0.2).double())


@pytest.mark.parametrize(("kind", "schedule"), CASES)
def test_every_parameterisation_gives_the_same_denoiser(kind, schedule):
    net = GaussianNet(kind, schedule, gaussian())
    how = {"parameterisation": kind, "schedule": schedule, "dtype": torch.float64}
    prior = NetworkPrior(net, SPACE, mean=0, std=0.5, **how)
    low, high = (table(schedule) if kind in VP else table("linear")).ends
    sigma = torch.logspace(1, 0, 8, base=low / high).double() * high
    x = torch.randn(8, *SPACE.shape, generator=torch.Generator().manual_seed(0)).double()
    x = x * (1 + sigma[:, None, None, None])
    torch.testing.assert_close(prior.denoise(x, sigma), gaussian().denoise(x, sigma), atol=1e-6, rtol=1e-6)


SCHEDULERS = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "scaled_linear:beta_min=0.0005,beta_max=0.0195": {
        "beta_schedule": "scaled_linear", "beta_start": 0.0005, "beta_end": 0.0195
    },
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "cosine:steps=400": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400},
}  # fmt: skip
PREDICTIONS = {"vp-eps": "epsilon", "vp-v": "v_prediction", "vp-x0": "sample"}


def network(x, label):
    """Any fixed function of input and label."""
    return torch.sin(3 * x) + x * (0.01 * label + 1).log()[:, None, None, None]


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_clean_estimates_are_diffusers(kind, schedule):
    scheduler = DDPMScheduler(prediction_type=PREDICTIONS[kind], clip_sample=False, **SCHEDULERS[schedule])
    # diffusers multiplies its betas in float32, which blurs low noise levels by a part in a thousand.
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
    x = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    for index in (0, 7, 250, 391):
        kept = scheduler.alphas_cumprod[index]
        sigma = ((1 - kept) / kept).sqrt()[None]
        got = adapter(kind, schedule)(network, x / kept.sqrt(), sigma, torch.tensor(0.5))
        out = network(x, torch.full((1,), float(index)).double())
        want = scheduler.step(out, index, x, generator=torch.Generator()).pred_original_sample
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_tables_are_diffusers(schedule):
    kept = torch.cumprod(1 - DDPMScheduler(**SCHEDULERS[schedule]).betas.double(), 0)
    torch.testing.assert_close(table(schedule).levels, ((1 - kept) / kept).sqrt(), rtol=1e-4, atol=0)


def test_flows_are_diffusers():
    """One step of Euler to time 0 is the clean estimate."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    x = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    for t in (0.1, 0.6, 0.95):
        scheduler.set_timesteps(sigmas=[t])
        label = scheduler.timesteps
        want = scheduler.step(network(x, label), label[0], x).prev_sample
        sigma = torch.tensor([t / (1 - t)])
        got = adapter("flow-1000")(network, x / (1 - t), sigma, torch.tensor(0.5))
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_the_score_is_diffusers_ve():
    """Its label is sigma, and its drift over one step is the score's."""
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=10, sigma_min=0.01, sigma_max=50)
    scheduler.set_timesteps(10)
    scheduler.set_sigmas(10)
    x = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    sigma, below = scheduler.discrete_sigmas[5], scheduler.discrete_sigmas[4]
    out = network(x, sigma[None])
    drift = scheduler.step_pred(out, scheduler.timesteps[-6], x).prev_sample_mean - x
    got = adapter("score")(network, x, sigma[None], torch.tensor(0.5))
    torch.testing.assert_close(got - x, drift * sigma**2 / (sigma**2 - below**2), atol=1e-4, rtol=1e-4)


def test_tables():
    torch.testing.assert_close(table("linear").levels.flip(0), ddpm(1000)[:-1])
    levels_of = table("linear").levels[[3, 500, 999]]
    torch.testing.assert_close(table("linear").label(levels_of), torch.tensor([3.0, 500.0, 999.0]).double())
    rescaled = table("cosine:steps=4000,rescaled=1")
    torch.testing.assert_close(rescaled.label(rescaled.levels[[0, 40, 3999]]), torch.tensor([0, 10, 999.75]).double())
    # The SDE is the limit of the discrete table: index 999 t, halfway down the same level to one part in 200.
    t = torch.tensor([0.5]).double()
    assert float(Continuous().label(table("linear").levels[[499]]) / (999 * t)) == pytest.approx(1, abs=0.005)
    assert levels("vp-eps", "continuous")[1] == pytest.approx(152.2, abs=0.1)
    assert levels("vp-eps", "linear") == pytest.approx((0.01, 157.4), abs=0.01)
    assert levels("edm", "nonsense") == (0.002, 80.0)


def test_messages():
    with pytest.raises(PriorError, match="'vp-epsilon' is unknown; there are: edm, vp-eps"):
        adapter("vp-epsilon")
    with pytest.raises(PriorError, match="schedule 'quadratic' is unknown; there are: linear, scaled_linear, cosine"):
        adapter("vp-eps", "quadratic")
    for wrong in ("linear:stpes=9", "linear:steps", "cosine:steps=many", "continuous:steps=9"):
        with pytest.raises(PriorError, match=rf"schedule '{wrong}': .*; write it like 'linear:steps=4000"):
            adapter("vp-eps", wrong)
