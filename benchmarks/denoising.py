"""Denoising of diffusion series: python benchmarks/denoising.py [--scans DIR] [--case NAME ...]

`phantom`: a head of crossing fibres of 64 x 64 x 20 voxels, 32 directions at b = 1000 s/mm^2 and two b0s, whose truth
is known. `b1k_b2k`, `multishell`: two slices of real series as they were measured, which are the reference of
themselves with noise added; what noise they have counts as signal. Noise: Gaussian, of 2, 5 and 10 % of the mean b0
in the mask. b0s are kept in one column, denoised in the other. `alone`: without MP-PCA's share. PSNR: weighted volumes,
in the mask. FA: root mean square error where the reference's is 0.2 or more; direction there, in degrees. `edges`:
correlation of the residual's size with the edges of the image. `leak`: how much of the noise is left, by correlation.
Seconds and peak memory are of the process.
"""

import argparse
import resource
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import header, table

from invdiff import load
from invdiff.denoising import MPPCA, DiFusion, NLMeans, Patch2Self, Run, denoise
from invdiff.denoising.series import found_mask
from invdiff.metrics import dmri
from invdiff.noise import GaussianNoise
from invdiff.rng import Rng
from invdiff.volumes.gradients import load_gradients
from invdiff.volumes.layout import voxelwise
from invdiff_datasets.diffusion import gradient_table, head

ALONE = partial(DiFusion, steps=1500, ensemble=0)
METHODS = {
    "noisy": None,
    "mppca": MPPCA(),
    "patch2self": Patch2Self(),
    "nlmeans": NLMeans(),
    "difusion": DiFusion(),
    "network alone": DiFusion(ensemble=0),
    "difusion, fast": DiFusion(steps=1500),
    "network alone, fast": ALONE(),
    "patch2self pairs": ALONE(pairing="patch2self"),
    "previous volume": ALONE(pairing="previous-volume"),
    "nearest volume": ALONE(pairing="nearest-volume"),
    "as published": ALONE(pairing="previous-volume", fusion="paper", beside=0, means=False),
    "no context": ALONE(beside=0, means=False),
    "paper fusion": ALONE(fusion="paper"),
    "all steps": ALONE(discrepancy=10.0),
}
CASES = {"phantom": None, "b1k_b2k": "dwi_b1k_b2k_2slices", "multishell": "dwi_multishell_2slices"}
COLUMNS = ["method", "PSNR", "SSIM", "FA", "FA, b0 denoised", "degrees", "MD %", "edges", "leak", "s", "MiB"]


def case(name, scans):
    """Series without added noise, table, mask."""
    if CASES[name] is None:
        made = head((64, 64, 20), gradient_table({1000: 32}, b0=2))
        return made.series, made.gradients, made.mask
    path = scans / f"{CASES[name]}.nii.gz"
    volume = load(path)
    gradients = load_gradients(scans / f"{CASES[name]}.bval", scans / f"{CASES[name]}.bvec")
    return volume, gradients, found_mask(voxelwise(volume.data), gradients)


def row(name, truth, gradients, mask, fraction, quick):
    reference = voxelwise(truth.data)
    sigma = fraction * float(reference[..., gradients.b0][mask].mean())
    noisy = truth.like(GaussianNoise(sigma).sample(truth.data, Rng([(1, v) for v in range(len(truth.data))])))
    method, began = METHODS[name], time.process_time()
    if method is None:
        both, spent = [voxelwise(noisy.data)] * 2, 0.0
    else:
        result = denoise(noisy, gradients, method, mask=mask, b0="denoise", run=Run())
        spent = time.process_time() - began
        kept = result.volume.data.clone()
        kept[torch.from_numpy(gradients.b0)] = noisy.data[torch.from_numpy(gradients.b0)]
        both = voxelwise(kept), voxelwise(result.volume.data)
    scores = [dmri.against_reference(x, reference, gradients, mask) for x in both]
    weighted = ~gradients.b0
    noise, error = ((x - reference)[mask][:, weighted] for x in (voxelwise(noisy.data), both[0]))
    residual = dmri.without_reference(both[0], voxelwise(noisy.data), gradients, mask) if method and not quick else {}
    shells = [s for b, s in scores[0]["shells"].items() if b != "0"]
    md = 100 * scores[0]["md_rmse"] / dmri.fit(reference, gradients, mask).md[mask].mean()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    edges = residual.get("residual_edges")
    return [
        name, *(f"{np.mean([s[k] for s in shells]):.{d}f}" for k, d in (("psnr", 2), ("ssim", 3))),
        *(f"{s['fa_rmse_fibres']:.4f}" for s in scores), f"{scores[0]['direction_degrees']:.2f}", f"{md:.1f}",
        None if edges is None else f"{edges:.3f}", f"{(noise * error).mean() / (noise**2).mean():.3f}", f"{spent:.0f}",
        f"{peak:.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--case", nargs="+", choices=CASES, default=["phantom"])
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS)[:5])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.02, 0.05, 0.1], help="parts of the mean b0")
    parser.add_argument("--quick", action="store_true", help="without the residual's edges")
    arguments = parser.parse_args()
    header()
    for name in arguments.case:
        truth, gradients, mask = case(name, arguments.scans)
        for fraction in arguments.noise:
            rows = []
            for method in arguments.method:
                rows.append(row(method, truth, gradients, mask, fraction, arguments.quick))
                print(rows[-1], flush=True)
            table(f"{name}, noise {100 * fraction:g} % of b0", COLUMNS, rows)
