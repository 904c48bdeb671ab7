"""Priors on scans that none was trained on: as denoisers, and inside a reconstruction.

    python benchmarks/priors.py [--scans DIR] [--skip bm3d] [--only denoising|reconstruction]

Six slices per scan. Without --scans only the EPI scan inside nibabel is used; DIR may hold t1_2mm.nii.gz and
ct_abdopelvis_3mm.nii.gz (`invdiff_datasets.cards()` says where a stranger finds them). Non-local means and TV have
their best setting for each slice, chosen by the truth. BM3D knows the noise level; its package is not free for
commercial use and not installed by default: --skip bm3d leaves it out.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import header, table
from reconstruction import TASKS, six_slices
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from invdiff import load, reconstruct, simulate
from invdiff.comparison import best_tv
from invdiff.metrics import evaluate
from invdiff.priors.checkpoints import find, network_prior, read_card, units
from invdiff.priors.network import pick_dtype
from invdiff.rng import generator
from invdiff.solvers import DiffPIR
from invdiff.space import Space
from invdiff.volumes import to_slices
from invdiff_datasets import epi_2mm


def prior_units(card, truth):
    """The slices (6, 1, H, W) in the units of the prior: window, or 99.9th percentile of the truth."""
    x = to_slices(truth.data)
    window = units(card).window
    low, high = window or (0.0, float(x.quantile(0.999)))
    return (x - low) / (high - low)


def psnr(image, truth):
    return evaluate(image[:, 0].movedim(0, 2).numpy(), truth[:, 0].movedim(0, 2).numpy())["psnr"]


def best(denoise, settings, noisy, truth):
    """Each slice with the setting, of several, that has the least error."""
    out = []
    for z, x in zip(noisy[:, 0].numpy(), truth[:, 0].numpy(), strict=True):
        out.append(min((denoise(z, s) for s in settings), key=lambda d, x=x: float(np.square(d - x).mean())))
    return torch.from_numpy(np.stack(out))[:, None].float()


def nlm(sigma):
    def run(z, h):
        how = {"patch_size": 5, "patch_distance": 7, "fast_mode": True}
        return denoise_nl_means(z, h=h * sigma, sigma=sigma, **how)

    return run


def tv(sigma):
    return lambda z, w: denoise_tv_chambolle(z, weight=w * sigma, eps=1e-5, max_num_iter=400)


def bm3d(noisy, sigma):
    import bm3d as package

    return torch.from_numpy(np.stack([package.bm3d(z, sigma) for z in noisy[:, 0].numpy()]))[:, None].float()


def by_prior(name, noisy, sigma):
    """The magnitude prior's own estimate; a complex one sees a zero imaginary channel with noise of its own."""
    dtype = pick_dtype("auto", torch.device("cpu"))
    channels = 2 if name.endswith("complex") else 1
    z = noisy
    if channels == 2:
        z = torch.cat([noisy, sigma * torch.randn(noisy.shape, generator=generator("imaginary"))], dim=1)
    prior, _, _ = network_prior(find(name), Space((channels, *noisy.shape[2:])), dtype=dtype, width=len(noisy))
    with torch.no_grad():
        return prior.denoise(z, torch.full((len(z),), sigma))[:, :1]


def denoising(scan, truth, names, skip):
    x, rows = prior_units(read_card(find(names[0])), truth), []
    for level in (15, 25, 50):
        sigma = level / 255
        z = x + sigma * torch.randn(x.shape, generator=generator("noise", level))
        rivals = {
            "non-local means": best(nlm(sigma), np.linspace(0.2, 1.4, 7), z, x),
            "TV": best(tv(sigma), np.geomspace(0.3, 3, 12), z, x),
        }
        if "bm3d" not in skip:
            rivals["BM3D"] = bm3d(z, sigma)
        figures = {n: psnr(image, x) for n, image in rivals.items()}
        ours = {n: psnr(by_prior(n, z, sigma), x) for n in names}
        gain = ours[names[0]] - max(figures.values())
        rows.append(
            [f"{level}/255", f"{psnr(z, x):.2f}", *(f"{v:.2f}" for v in (figures | ours).values()), f"{gain:+.2f}"]
        )
    table(f"denoising {scan} (split: demo), PSNR in dB", ["noise", "noisy", *figures, *ours, "gain"], rows)


def reconstruction(scan, truth, task):
    acquisition, noise = TASKS[task]
    m = simulate(truth, acquisition, noise=noise)
    yardstick, weight = best_tv(m, truth)
    images = {f"TV, best weight ({weight:.2g})": yardstick}
    for title, solver, seeds in (
        ("one sample", DiffPIR(), (0,)),
        ("mean of 8", DiffPIR(), range(8)),
        ("deterministic", DiffPIR(zeta=0.0), (0,)),
    ):
        images[title] = reconstruct(m, solver, seeds=seeds).mean
    found = {n: evaluate(v.data[0].numpy(), truth.data[0].numpy()) for n, v in images.items()}
    gain = found["mean of 8"]["psnr"] - next(iter(found.values()))["psnr"]
    rows = [["PSNR/dB", *(f"{e['psnr']:.2f}" for e in found.values()), f"{gain:+.2f}"]]
    rows.append(["SSIM", *(f"{e['ssim']:.3f}" for e in found.values()), ""])
    table(f"{scan} (split: demo), {task}, prior {acquisition.prior}", ["", *found, "gain of the mean"], rows)


def scans(folder):
    """Name -> slices, priors that denoise it, reconstruction task."""
    found = {"epi_2mm": (six_slices(epi_2mm()), ["brain-mr", "brain-mr-complex"], "mri4")}
    if folder:
        found["t1_2mm"] = (six_slices(load(folder / "t1_2mm.nii.gz")), ["brain-mr", "brain-mr-complex"], "mri4")
        body = six_slices(load(folder / "ct_abdopelvis_3mm.nii.gz"), air=-1000.0)
        found["ct_abdopelvis_3mm"] = (body, ["ct-body"], "ct60")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--skip", nargs="*", default=[], choices=["bm3d"])
    parser.add_argument("--only", choices=["denoising", "reconstruction"])
    args = parser.parse_args()
    header()
    for scan, (truth, names, task) in scans(args.scans).items():
        if args.only != "reconstruction":
            denoising(scan, truth, names, args.skip)
        if args.only != "denoising":
            reconstruction(scan, truth, task)
