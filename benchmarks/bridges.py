"""I2SB and CDDB at 1 to 100 network calls, beside DiffPIR at 100 and TV: PSNR, SSIM, patch distance, chi2, seconds.

    python benchmarks/bridges.py --scans DIR [--case epi_2mm:mri4 ...] [--bridge FILE] [--picture FILE.png]

Six axial slices of demo scans, 1 % noise, one sample; the clock is the processor's, of all threads. The patch distance
(sliced Wasserstein, 7 x 7 voxels less their mean, in units of the truth's) says how far the texture is from that of the
truth: 0 for an image of the same law, above it for one too smooth or too rough. TV has the best of twelve weights,
chosen by the truth. Without --bridge the one that ships is used.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from common import header, table
from quality import TASKS, figures, scans, six_slices

from invdiff import reconstruct, simulate
from invdiff.comparison import best_tv
from invdiff.rng import generator
from invdiff.solvers import CDDB, I2SB, DiffPIR, Direct

CASES = ("epi_2mm:mri4", "epi_2mm:mri8", "t1_2mm:mri4", "t1_2mm:mri8", "ct_abdopelvis_3mm:ct60")
CALLS = (1, 2, 5, 10, 20, 50, 100)
COLUMNS = ["solver", "calls", "PSNR", "SSIM", "patches", "chi2", "s"]


def patches(volume):
    """Of all slices: 7 x 7 voxels less their mean, (n, 49)."""
    p = F.unfold(volume.data[0].movedim(-1, 0)[:, None], 7).movedim(1, 2).reshape(-1, 49)
    return p - p.mean(1, keepdim=True)


def patch_distance(volume, truth):
    """Sliced Wasserstein distance of the laws of patches over 64 directions, in the truth's mean spread."""
    theta = torch.randn((49, 64), generator=generator("directions"))
    a, b = ((patches(v) @ theta).sort(0).values for v in (volume, truth))
    return float((a - b).abs().mean() / b.abs().mean())


def cells(name, calls, volume, truth, chi2, seconds):
    e = figures(volume, truth)
    told = "-" if chi2 is None else f"{chi2:.2f}"
    return [
        name,
        calls,
        f"{e['psnr']:.2f}",
        f"{e['ssim']:.3f}",
        f"{patch_distance(volume, truth):.3f}",
        told,
        f"{seconds:.1f}",
    ]


def run(name, solver, m, truth, prior=None):
    began = time.process_time()
    r = reconstruct(m, solver, seeds=(0,), prior=prior)
    seconds = time.process_time() - began
    return cells(name, r.facts["nfe_per_sample"], r.mean, truth, r.facts["data_fit"]["mean"]["chi2"], seconds)


def case(volumes, name, bridge):
    scan, task = name.split(":")
    acquisition, noise, _ = TASKS[task]
    truth = six_slices(volumes[scan], acquisition.zero)
    m = simulate(truth, acquisition, noise=noise)
    rows = [run("direct", Direct(), m, truth)]
    for kind, cls in (("i2sb", I2SB), ("cddb", CDDB)):
        rows += [run(kind, cls(steps=n), m, truth, bridge) for n in CALLS]
    rows.append(run("diffpir", DiffPIR(steps=100), m, truth))
    began = time.process_time()
    tv, _ = best_tv(m, truth)
    rows.append(cells("tv", 0, tv, truth, None, time.process_time() - began))
    table(f"{scan}, {task}", COLUMNS, rows)
    return rows


def picture(path, found):
    """The perception-distortion plane: error against patch distance, a curve over the number of calls."""
    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 3.4), layout="constrained", squeeze=False)
    for axis, (name, rows) in zip(axes[0], found.items(), strict=True):
        for kind in ("i2sb", "cddb"):
            line = [(float(r[2]), float(r[4]), r[1]) for r in rows if r[0] == kind]
            axis.plot(*zip(*[p[:2] for p in line], strict=True), "o-", label=kind)
            for psnr, distance, calls in line:
                axis.annotate(str(calls), (psnr, distance), textcoords="offset points", xytext=(4, 4), fontsize=7)
        for kind in ("diffpir", "tv"):
            r = next(r for r in rows if r[0] == kind)
            axis.plot(float(r[2]), float(r[4]), "s", label=kind)
        axis.set(title=name.replace(":", ", "), xlabel="PSNR (dB)")
    axes[0, 0].set_ylabel("distance of the texture from the truth's")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--case", nargs="*", default=CASES)
    parser.add_argument("--bridge")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    header()
    known = dict(scans(arguments.scans))
    tables = {c: case(known, c, arguments.bridge) for c in arguments.case if c.split(":")[0] in known}
    if arguments.picture:
        picture(arguments.picture, tables)
