"""Whole volumes, slice by slice and with perpendicular priors: PSNR, SSIM in three planes, jumps between slices.

    python benchmarks/volumes.py --scans DIR [--case z4 ...] [--solver diffpir ...] [--samples 8] [--picture FILE.png]
    python benchmarks/volumes.py --scans DIR --published

The middle 48 slices of demo scans (split: demo), for z4 of each axis; 1 % noise, one sample or the mean of
several. PSNR is of the volume; PSNR and SSIM 0, 1, 2 are means over the slices across that axis. `jump` is the root
mean square difference of neighbouring slices of the primary plane, divided by the truth's: 1 is right, more is flicker,
less is blur. Seconds are the processor's, of all threads.

--published is TPDM with the paper's 2000 levels, corrector and guidance, on the middle 32 x 32 x 32 voxels for z4, and
quicker ways beside it. The paper's lambda = 3 multiplies the norm of 6 slices of 256 x 256 / 4 means of 4 voxels, each
of weight 2 (an orthonormal basis): per square root of the measured scalars 3 x 2 / sqrt(6 x 64 x 256) = 0.019.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from common import header, table

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import CT, MRI, ThickSlices
from invdiff.metrics import evaluate
from invdiff.planes import Planes
from invdiff.solvers import CG, DDS, DDS3D, MMPS, TPDM, DiffPIR, DiffusionMBIR, Direct, PnP
from invdiff.volumes import Volume

CASES = {  # scan, acquisition, primary axis, auxiliary axis
    "z4": ("t1_2mm", ThickSlices(factor=4), 0, 1),
    "mri8": ("t1_2mm", MRI(acceleration=8, center_fraction=0.04), 2, 0),
    "ct36": ("ct_abdopelvis_3mm", CT(views=36), 2, 0),
}
SOLVERS = {
    "diffpir": DiffPIR(),
    "dds": DDS(),
    "pnp": PnP(),
    "mmps": MMPS(),
    "tpdm": TPDM(),
    "diffusionmbir": DiffusionMBIR(),
    "dds3d": DDS3D(),
}
PUBLISHED = {
    "tpdm, as published": TPDM(steps=2000, sigma_min=0.01, corrector=True, zeta_per_sqrt_m=0.019, parity="code"),
    "tpdm": TPDM(),
    "diffpir": DiffPIR(),
}
COLUMNS = ["solver", "planes", "PSNR", *(f"{s} {k}" for s in ("PSNR", "SSIM") for k in range(3)), "jump", "chi2", "s"]


def middle(volume, axes, size=48):
    data = volume.data[0]
    for axis in axes:
        n = data.shape[axis]
        data = data.narrow(axis, (n - min(n, size)) // 2, min(n, size))
    return Volume(data[None].contiguous(), volume.affine)


def row(name, planes, r, truth, axis, seconds):
    a, b = r.mean.data[0].numpy(), truth.data[0].numpy()
    psnrs, ssim = zip(*(of_slices(np.moveaxis(a, k, 2), np.moveaxis(b, k, 2)) for k in range(3)), strict=True)
    jump = (np.diff(a, axis=axis) ** 2).mean() ** 0.5 / (np.diff(b, axis=axis) ** 2).mean() ** 0.5
    chi2 = r.facts["data_fit"]["mean"]["chi2"]
    psnr = evaluate(a, b)["psnr"]
    told = "-" if planes is None else ",".join(map(str, planes))
    figures = [f"{psnr:.2f}", *(f"{p:.2f}" for p in psnrs), *(f"{s:.3f}" for s in ssim), f"{jump:.2f}", f"{chi2:.2f}"]
    return [name, told, *figures, f"{seconds:.0f}"]


def of_slices(a, b):
    """Means over the slices of the third axis, of PSNR with the volume's range and of SSIM."""
    mse = ((a - b) ** 2).mean((0, 1))
    return float((20 * np.log10(b.max() - b.min()) - 10 * np.log10(mse)).mean()), evaluate(a, b)["ssim"]


def across(solver, axis):
    """With the slices where the primary plane has them."""
    return replace(solver, axis_z=axis) if hasattr(solver, "axis_z") else solver


def case(volumes, name, solvers, size, samples):
    scan, acquisition, primary, auxiliary = CASES[name]
    truth = middle(volumes[scan], (0, 1, 2) if name == "z4" else (2,), size)
    runs = [("direct", Direct(), None), ("cg", CG(), None)]
    runs += [(s, across(SOLVERS[s], primary), p) for s in solvers for p in ((primary,), (primary, auxiliary))]
    found = compare(f"{scan}, {name}, primary slices across axis {primary}", truth, acquisition, primary, runs, samples)
    return *found, (primary, auxiliary)


def published(volumes):
    scan, acquisition, primary, auxiliary = CASES["z4"]
    runs = [(s, solver, (primary, auxiliary)) for s, solver in PUBLISHED.items()]
    compare(f"{scan}, z4, 32 x 32 x 32", middle(volumes[scan], (0, 1, 2), 32), acquisition, primary, runs)


def compare(title, truth, acquisition, primary, runs, samples=1):
    if acquisition.zero == 0:
        truth = Volume(truth.data.clamp_min(0), truth.affine)
    m = simulate(truth, acquisition, noise=0.01)
    rows, kept = [], {}
    for label, solver, axes in runs:
        began = time.process_time()
        r = reconstruct(m, solver, seeds=range(samples), planes=Planes(axes) if axes else None)
        rows.append(row(label, axes, r, truth, primary, time.process_time() - began))
        kept[label, axes] = r.mean
        print(rows[-1], flush=True)
    table(title, COLUMNS, rows)
    return truth, kept


def picture(path, truth, kept, axes, solver):
    """Three planes: truth, the primary prior alone, both."""
    primary, auxiliary = axes
    columns = {
        "truth": truth,
        f"{solver}, one plane": kept[solver, (primary,)],
        f"{solver}, perpendicular": kept[solver, (primary, auxiliary)],
    }
    low, high = np.quantile(truth.data.numpy(), [0.0, 0.999])
    figure, grid = plt.subplots(3, 3, figsize=(7.5, 7.5), layout="constrained")
    for column, (title, volume) in zip(grid.T, columns.items(), strict=True):
        for axis, panel in enumerate(column):
            plane = np.take(volume.data[0].numpy(), volume.data.shape[1 + axis] // 2, axis)
            panel.imshow(plane.T[::-1], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
        column[0].set_title(title, fontsize=9)
    for axis in range(3):
        grid[axis, 0].set_ylabel(f"across axis {axis}" + (", primary" if axis == primary else ""), fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--solver", nargs="*", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--slices", type=int, default=48)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--published", action="store_true")
    arguments = parser.parse_args()
    header()
    if arguments.published:
        arguments.case = ["z4"]
    known = {s: load(arguments.scans / f"{s}.nii.gz") for s in {CASES[c][0] for c in arguments.case}}
    if arguments.published:
        published(known)
        parser.exit()
    for name in arguments.case:
        found = case(known, name, arguments.solver, arguments.slices, arguments.samples)
        if arguments.picture and name == arguments.case[0]:
            picture(arguments.picture, *found, arguments.solver[0])
