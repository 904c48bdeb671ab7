"""diffusers' UNet2DModel: a state dict with a config.json beside it, and maybe a scheduler's."""

from __future__ import annotations

from typing import Any

from invdiff.errors import PriorError
from invdiff.priors.foreign.base import Context, Family, Found, State

# Attention's names before diffusers 0.17.
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
PREDICTIONS = {"epsilon": "vp-eps", "v_prediction": "vp-v", "sample": "vp-x0"}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
BETAS = {"linear": (1e-4, 2e-2), "scaled_linear": (8.5e-4, 1.2e-2)}


def read(state: State, context: Context) -> Found:
    """The architecture is the config; what is predicted stands in the scheduler's."""
    config = context.config
    if config is None:
        raise PriorError("a diffusers checkpoint needs its config.json beside it; convert the folder that holds both")
    kind = config.get("_class_name")
    if kind != "UNet2DModel":
        raise PriorError(f"config.json describes a {kind}; invdiff reads diffusers' UNet2DModel, without conditioning")
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        raise PriorError(
            "the network is class-conditional; invdiff's priors take no class, convert an unconditional one"
        )
    arguments = {k: v for k, v in config.items() if not k.startswith("_")}
    renamed = {"net." + _current(key): value for key, value in state.items()}
    parameterisation, schedule, levels = _scheduler(context.scheduler or {}, arguments)
    assumed = {} if context.scheduler else {"parameterisation": parameterisation, "schedule": schedule}
    return Found("diffusersunet2d", arguments, renamed, parameterisation, schedule, levels=levels, assumed=assumed)


def _current(key: str) -> str:
    module, _, kind = key.rpartition(".")
    head, _, last = module.rpartition(".")
    return f"{head}.{OLD[last]}.{kind}" if last in OLD and "attentions" in head else key


def _scheduler(config: dict[str, Any], network: dict[str, Any]) -> tuple[str, str, tuple[float, float] | None]:
    name = config.get("_class_name", "DDPMScheduler")
    if name.startswith("FlowMatch"):
        return "flow-1000", "linear", None
    if name == "ScoreSdeVeScheduler" or (not config and network.get("time_embedding_type") == "fourier"):
        return "score", "linear", (config.get("sigma_min", 0.01), config.get("sigma_max", 1348.0))
    if config.get("trained_betas") or config.get("rescale_betas_zero_snr"):
        raise PriorError(
            f"{name} has a noise table of its own (trained_betas or rescale_betas_zero_snr); give --schedule"
        )
    prediction, betas = config.get("prediction_type", "epsilon"), config.get("beta_schedule", "linear")
    if prediction not in PREDICTIONS or betas not in SCHEDULES:
        raise PriorError(
            f"{name} with {prediction} prediction on {betas} betas is not known; give --parameterisation and --schedule"
        )
    return PREDICTIONS[prediction], _schedule(SCHEDULES[betas], config), None


def _schedule(name: str, config: dict[str, Any]) -> str:
    """The schedule's name, with settings where they are not the usual."""
    settings = {}
    if config.get("num_train_timesteps", 1000) != 1000:
        settings["steps"] = config["num_train_timesteps"]
    if name in BETAS:
        # diffusers' own defaults are DDPM's, for both schedules
        low, high = config.get("beta_start", 1e-4), config.get("beta_end", 2e-2)
        settings |= {} if (low, high) == BETAS[name] else {"beta_min": low, "beta_max": high}
    return name + (":" + ",".join(f"{k}={v:g}" for k, v in settings.items()) if settings else "")


FAMILY = Family("diffusers", "conv_in.weight", read)
