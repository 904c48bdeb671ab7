"""Whole volumes, slice by slice and with perpendicular priors: PSNR, SSIM in three planes, jumps between slices.

    python benchmarks/volumes.py --scans DIR [--case z4 ...] [--solver diffpir ...] [--picture FILE.png]

The middle 48 slices of demo scans (split: demo), for z4 of each axis; 1 % noise, one sample. `jump` is the root mean
square difference of neighbouring slices of the primary plane, divided by the truth's: 1 is right, more is flicker, less
is blur. Seconds are the processor's, of all threads.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from common import header, table

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import CT, MRI, ThickSlices
from invdiff.metrics import evaluate
from invdiff.planes import Planes
from invdiff.solvers import CG, DDS, DDS3D, MMPS, TPDM, DiffPIR, Direct, PnP
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
}
COLUMNS = ["solver", "planes", "PSNR", "SSIM 0", "SSIM 1", "SSIM 2", "jump", "chi2", "s"]


def middle(volume, axes, size=48):
    data = volume.data[0]
    for axis in axes:
        n = data.shape[axis]
        data = data.narrow(axis, (n - min(n, size)) // 2, min(n, size))
    return Volume(data[None].contiguous(), volume.affine)


def row(name, planes, r, truth, axis, seconds):
    a, b = r.mean.data[0].numpy(), truth.data[0].numpy()
    ssim = [evaluate(np.moveaxis(a, k, 2), np.moveaxis(b, k, 2))["ssim"] for k in range(3)]
    jump = (np.diff(a, axis=axis) ** 2).mean() ** 0.5 / (np.diff(b, axis=axis) ** 2).mean() ** 0.5
    chi2 = r.facts["data_fit"]["mean"]["chi2"]
    psnr = evaluate(a, b)["psnr"]
    told = "-" if planes is None else ",".join(map(str, planes))
    return [name, told, f"{psnr:.2f}", *(f"{s:.3f}" for s in ssim), f"{jump:.2f}", f"{chi2:.2f}", f"{seconds:.0f}"]


def case(volumes, name, solvers):
    scan, acquisition, primary, auxiliary = CASES[name]
    truth = middle(volumes[scan], (0, 1, 2) if name == "z4" else (2,))
    if acquisition.zero == 0:
        truth = Volume(truth.data.clamp_min(0), truth.affine)
    m = simulate(truth, acquisition, noise=0.01)
    runs = [("direct", Direct(), None), ("cg", CG(), None)]
    runs += [(s, SOLVERS[s], p) for s in solvers for p in ((primary,), (primary, auxiliary))]
    runs.append(("dds3d", DDS3D(axis_z=primary), (primary,)))
    rows, kept = [], {}
    for label, solver, axes in runs:
        began = time.process_time()
        r = reconstruct(m, solver, seeds=(0,), planes=Planes(axes) if axes else None)
        rows.append(row(label, axes, r, truth, primary, time.process_time() - began))
        kept[label, axes] = r.mean
        print(rows[-1], flush=True)
    table(f"{scan}, {name}, primary slices across axis {primary}", COLUMNS, rows)
    return truth, kept, (primary, auxiliary)


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
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    header()
    known = {s: load(arguments.scans / f"{s}.nii.gz") for s in {CASES[c][0] for c in arguments.case}}
    for name in arguments.case:
        found = case(known, name, arguments.solver)
        if arguments.picture and name == arguments.case[0]:
            picture(arguments.picture, *found, arguments.solver[0])
