"""Warm starts against cold ones, for a stack and for series: PSNR, SSIM, spread, jumps, calls and seconds.

    python benchmarks/warm.py --scans DIR [--case stack ...] [--sigma 0.03 0.14 0.43] [--samples 4]

4x MRI, 1 % noise, diffpir. All figures leave out the first slice or frame, which is never warm. `one` is the mean PSNR
of the samples; `mean` and SSIM are of their mean. `spread` is the root mean square of the samples' standard deviation,
divided by that of the error of their mean: 1 is right. `jump` is the root mean square difference of a sample's
neighbours, divided by the truth's. `leak` is how much of what the neighbour before differs by, in truth, is found in
the error of the mean: that of cold starts is no leak. `auto` is twice the rms difference of neighbours in the direct
images, one level for each start. Seconds are the processor's, of all threads. In `phases` every frame has a phase of
its own.

The second table is of the last slice or frame alone. `again` is solved as often as the chain is long, from its own
samples: what walking the lower levels again gives, without any neighbour.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import header, table

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import MRI
from invdiff.acquisitions.complex import smooth_phase
from invdiff.metrics import evaluate
from invdiff.solvers import DiffPIR
from invdiff.volumes import Volume
from invdiff.warm import Warm, chain_of, width_of

CASES = {  # scan, along, whether all frames have the same phase
    "stack": ("t1_2mm", "slices", True),
    "series": ("epi_2mm", "frames", True),
    "dwi": ("dwi_b1k_b2k_2slices", "frames", True),
    "phases": ("epi_2mm", "frames", False),
}
AGAIN = 0.14
COLUMNS = ["start", "sigma_w", "levels", "calls", "one", "mean", "SSIM", "spread", "jump", "leak", "chi2", "s"]


def scan_of(folder, name):
    """24 middle slices; six axial slices of two frames; eight frames at b = 1000 s/mm^2."""
    volume = load(folder / f"{name}.nii.gz")
    data, depth = volume.data, volume.data.shape[3]
    if name.startswith("t1"):
        data = data[..., depth // 2 - 12 : depth // 2 + 12]
    elif name.startswith("epi"):
        data = data[..., torch.linspace(0.3 * depth, 0.7 * depth, 6).long()]
    else:
        b = np.loadtxt(folder / f"{name}.bval")
        data = data[np.flatnonzero(abs(b - 1000) < 50)[:8]]
    return Volume(data.clamp_min(0).contiguous(), volume.affine)


def measured(truth, same_phase):
    if len(truth.data) == 1 or not same_phase:
        return simulate(truth, MRI(), noise=0.01)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phase.npy"
        x, y, z = truth.data.shape[1:]
        np.save(path, smooth_phase((z, x, y), 1.0, 0).permute(1, 2, 0).numpy())
        return simulate(truth, MRI(phase_file=str(path)), noise=0.01)


def psnr(data, truth):
    return np.mean([evaluate(a.numpy(), b.numpy())["psnr"] for a, b in zip(data, truth, strict=True)])


def row(name, r, m, truth, along, seconds):
    axis = 3 if along == "slices" else 0

    def later(data):
        return data.narrow(axis, 1, data.shape[axis] - 1)

    samples = [m.volume(x).data for x in r.samples]
    mean, right = later(r.mean.data), later(truth.data)
    ssim = np.mean([evaluate(a.numpy(), b.numpy())["ssim"] for a, b in zip(mean, right, strict=True)])
    spread = later(r.std.data).square().mean().sqrt() / (mean - right).square().mean().sqrt()
    jump = (samples[0].diff(dim=axis).square().mean() / truth.data.diff(dim=axis).square().mean()).sqrt()
    away = truth.data.narrow(axis, 0, truth.data.shape[axis] - 1) - right
    leak = ((mean - right) * away).sum() / away.square().sum()
    done = r.facts["warm"]
    levels = [s for s in done["sigma"][1:] if s] if done else []
    told = f"{min(levels):.3f} to {max(levels):.3f}" if levels else None
    counts = f"{min(done['nfe'][1:])} to {max(done['nfe'][1:])}" if done else "12"
    return [
        name, told, counts, r.facts["nfe_per_sample"], f"{np.mean([psnr(later(s), right) for s in samples]):.2f}",
        f"{psnr(mean, right):.2f}", f"{ssim:.3f}", f"{float(spread):.2f}", f"{float(jump):.2f}", f"{float(leak):.2f}",
        f"{r.facts['data_fit']['first_sample']['chi2']:.2f}", f"{seconds:.0f}",
    ]  # fmt: skip


def case(folder, name, sigmas, samples):
    scan, along, same_phase = CASES[name]
    truth = scan_of(folder, scan)
    m = measured(truth, same_phase)
    width = width_of(chain_of(m, Warm(along=along)), samples)
    starts = {"cold": None, "auto": Warm(along=along)}
    starts |= {f"{s:g}": Warm(along=along, sigma=s) for s in sigmas if name != "phases"}
    rows = []
    for label, warm in starts.items():
        began = time.process_time()
        r = reconstruct(m, DiffPIR(), seeds=range(samples), warm=warm, width=width)
        rows.append(row(label, r, m, truth, along, time.process_time() - began))
        print(rows[-1], flush=True)
    shape = " x ".join(map(str, truth.data.shape))
    table(f"{name}: {scan}, {shape}, along {along}, {samples} samples, {width} rows a call", COLUMNS, rows)
    if name != "phases":
        again(m, truth, along, range(samples), width)


def again(m, truth, along, seeds, width):
    """The last link: cold, at the end of its chain, and at the end of one of itself alone."""
    chain = chain_of(m, how := Warm(along=along, sigma=AGAIN))
    own = replace(m, y=m.y[chain[-1] * len(chain)])  # frame by frame, or slice by slice: in the order of the problems
    axis, rows = 3 if along == "slices" else 0, []
    for label, one, warm in (("cold", m, None), ("chain", m, how), ("again", own, how)):
        r = reconstruct(one, DiffPIR(), seeds=seeds, warm=warm, width=width)
        last = [v.narrow(axis, -1, 1) for v in (truth.data, r.mean.data, *(one.volume(x).data for x in r.samples))]
        scores = [psnr(x, last[0]) for x in last[1:]]
        rows.append([label, f"{np.mean(scores[1:]):.2f}", f"{scores[0]:.2f}"])
    table(f"the last of {along}, sigma_w {AGAIN}", ["start", "one", "mean"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--sigma", nargs="*", type=float, default=[0.03, 0.07, 0.14, 0.43])
    parser.add_argument("--samples", type=int, default=4)
    arguments = parser.parse_args()
    header()
    for chosen in arguments.case:
        case(arguments.scans, chosen, arguments.sigma, arguments.samples)
