"""Thick slices with perpendicular priors: the unknown on the scan's own voxels, or on such as the prior knows.

    python benchmarks/grids.py --scans DIR [--task mri ...] [--solver diffpir ...] [--lam 1]

The middle 48 slices of `t1_2mm` (split: demo), averaged in threes to 2 x 2 x 6 mm: that is the truth, and what is
measured. One sample; `slices` is each slice by itself. chi2 is that of the sample. Seconds are the processor's.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from common import header, table
from volumes import middle

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import MRI, Blur, Denoise
from invdiff.metrics import evaluate
from invdiff.planes import Planes
from invdiff.solvers import DiffPIR, PnP
from invdiff.volumes import Volume

TASKS = {  # acquisition, noise
    "mri": (MRI(acceleration=4), 0.01),
    "denoise": (Denoise(), 0.05),
    "blur": (Blur(), 0.01),
}
SOLVERS = {"diffpir": DiffPIR, "pnp": PnP}
RUNS = {"slices": (None, "scan"), "scan": (Planes((2, 0)), "scan"), "auto": (Planes((2, 0)), "auto")}
COLUMNS = ["solver", "grid", "voxels", "PSNR", "SSIM 0", "SSIM 1", "SSIM 2", "chi2", "s"]


def thickened(volume, factor):
    """Means of `factor` slices, and their place."""
    data = volume.data.clamp_min(0).unflatten(3, (-1, factor)).mean(4)
    to_mm = np.diag([1.0, 1.0, factor, 1.0])
    to_mm[2, 3] = (factor - 1) / 2
    return Volume(data.contiguous(), volume.affine @ to_mm)


def row(solver, grid, r, truth, seconds):
    a, b = r.mean.data[0].numpy(), truth.data[0].numpy()
    ssim = [evaluate(np.moveaxis(a, k, 2), np.moveaxis(b, k, 2))["ssim"] for k in range(3)]
    sizes = r.facts["grid"]["sizes"] if r.facts["grid"] else a.shape
    chi2 = r.facts["data_fit"]["first_sample"]["chi2"]
    figures = [f"{evaluate(a, b)['psnr']:.2f}", *(f"{s:.3f}" for s in ssim), f"{chi2:.2f}", f"{seconds:.0f}"]
    return [solver, grid, "x".join(map(str, sizes)), *figures]


def task(truth, name, solvers, lam):
    acquisition, noise = TASKS[name]
    m = simulate(truth, acquisition, noise=noise)
    rows = []
    for solver in solvers:
        for label, (planes, grid) in RUNS.items():
            began = time.process_time()
            r = reconstruct(m, SOLVERS[solver](lam=lam), seeds=(0,), planes=planes, grid=grid)
            rows.append(row(solver, label, r, truth, time.process_time() - began))
            print(rows[-1], flush=True)
    table(f"{name}, noise {noise:.0%}", COLUMNS, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--task", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--solver", nargs="*", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--lam", type=float, default=1.0, help="trust in the prior, of all solvers")
    arguments = parser.parse_args()
    header()
    whole = thickened(middle(load(arguments.scans / "t1_2mm.nii.gz"), (2,)), 3)
    for name in arguments.task:
        task(whole, name, arguments.solver, arguments.lam)
