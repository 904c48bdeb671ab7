"""What helps training: small networks, equal steps, one change at a time.

    python benchmarks/training.py --data DIR [--steps 600] [--only NAME ...]

DIR holds training volumes (NIfTI; never the demo scans). Each variant trains a quarter-width network from the same
weights on the same crops; judged on the held-out slab of every volume (error left, as a fraction of the noise, less
is better) and, against a data set whose denoiser is known, by the distance to it: a Gaussian of 16 x 16 pixels, root
mean square over six noise levels, in per cent of the data's standard deviation.
"""

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import header, table
from scipy.optimize import linear_sum_assignment

from invdiff.priors import GaussianPrior, NetworkPrior
from invdiff.rng import generator
from invdiff.space import Space
from invdiff.testing.priors import smooth_gaussian
from invdiff.training import loop
from invdiff.training.denoiser import DenoiserTraining, edm_task, network
from invdiff.training.loop import begin
from invdiff.training.validation import Validation
from invdiff_datasets.training import sources

LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
PLAIN = DenoiserTraining(width=16, batch=16, crop=32, grow_at=1.0, learning_rate=1e-3, ema=0.99)


def assigned(x0, noise, g):
    """Immiscible: the permutation of the noises with the least sum of squared distances to the images."""
    del g
    _, order = linear_sum_assignment(torch.cdist(x0.flatten(1), noise.flatten(1)).square())
    return noise[torch.from_numpy(order)]


def nearest_of_4(x0, noise, g):
    """Immiscible: of four draws for each image, the one nearest to it."""
    draws = torch.stack([noise, *(torch.randn(noise.shape, generator=g) for _ in range(3))])
    pick = (draws - x0).flatten(2).square().sum(2).argmin(0)
    return draws[pick, torch.arange(len(x0))]


def dispersion(h, tau=0.5):
    """log mean over pairs of exp(-|h_i - h_j|^2 / tau), features divided by the root of their number."""
    h = h.flatten(1) / math.sqrt(h[0].numel())
    apart = torch.pdist(h).square()
    return torch.logsumexp(-apart / tau, 0) - math.log(len(apart))


VARIANTS = {
    "plain": {},
    "immiscible, assignment": {"pair": assigned},
    "immiscible, nearest of 4": {"pair": nearest_of_4},
    "dispersive, 0.5": {"dispersive": 0.5},
    "dispersive, 0.05": {"dispersive": 0.05},
    "ln sigma mean -1.2": {"settings": {"log_sigma_mean": -1.2}},
    "ln sigma mean -3.0": {"settings": {"log_sigma_mean": -3.0}},
    "batch 8, crop 48": {"settings": {"batch": 7, "crop": 48}},
    "batch 64, crop 16": {"settings": {"batch": 64, "crop": 16}},
    "ema 0.999": {"settings": {"ema": 0.999}},
    "learning rate 3e-3": {"settings": {"learning_rate": 3e-3}},
}


def train(source, settings, *, pair=None, dispersive=0.0):
    """The library's loop, with noises paired anew or features repelled; seconds per step."""
    state = begin(source, settings, network(source.channels, settings))
    features = []
    if dispersive:
        state.net.down[-1][-1].register_forward_hook(lambda m, given, out: features.append(out))

    def task(x0, g, std):
        sigma = torch.exp(settings.log_sigma_mean + settings.log_sigma_std * torch.randn(len(x0), generator=g))
        noise = torch.randn(x0.shape, generator=g)
        if pair:
            noise = pair(x0, noise, generator(settings.seed, "pair", state.step))
        return edm_task(x0, sigma, noise, std)

    def error(answer, target):
        value = original(answer, target) + (dispersive * dispersion(features[0]) if dispersive else 0.0)
        features.clear()
        return value

    began, original, loop.error = time.perf_counter(), loop.error, error
    try:
        for _ in loop.train(source, settings, state, task, bf16=False):
            pass
    finally:
        loop.error = original
    return state, (time.perf_counter() - began) / settings.steps


class Known:
    """Crops of a Gaussian prior."""

    channels = 1

    def __init__(self, prior: GaussianPrior) -> None:
        self.prior = prior

    def draw(self, count, size, g):
        del size
        return self.prior.sample(torch.randn((count, *self.prior.space.shape), generator=g))


def distance(state, prior):
    """To the closed-form denoiser, in per cent of the data's standard deviation."""
    x = prior.sample(torch.randn((256, *prior.space.shape), generator=generator("x")))
    net, total = NetworkPrior(state.ema, Space(prior.space.shape), mean=state.mean, std=state.std), 0.0
    for level in LEVELS:
        sigma = torch.full((256,), level)
        z = x + level * torch.randn(x.shape, generator=generator("noise", level))
        with torch.no_grad():
            total += float((net.denoise(z, sigma) - prior.denoise(z, sigma)).square().mean())
    return 100 * math.sqrt(total / len(LEVELS)) / float(x.std())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, nargs="+")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    header()
    data, known = sources(args.data), smooth_gaussian(16)
    validation, rows = Validation.of(data.validation, 64, 0, count=32), []
    for name in args.only:
        how = dict(VARIANTS[name])
        settings = replace(PLAIN, steps=args.steps, **how.pop("settings", {}))
        state, seconds = train(data.train, settings, **how)
        left = validation.losses(state.ema, state.std)
        known_state, _ = train(Known(known), replace(settings, crop=16), **how)
        rows.append(
            [
                name,
                *(f"{left[s]:.4f}" for s in (0.02, 0.1, 0.5)),
                f"{distance(known_state, known):.2f}",
                f"{seconds:.3f}",
            ]
        )
        print(rows[-1], flush=True)
    columns = ["variant", "0.02", "0.1", "0.5", "Gaussian / %", "s/step"]
    table(
        f"{args.steps} steps, {len(data.scans)} volumes (split: train), error left on the held-out slab", columns, rows
    )
