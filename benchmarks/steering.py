"""A prior on scans unlike those it was trained on, before and after steering: PSNR, SSIM, chi2, seconds, memory.

    python benchmarks/steering.py --scans DIR [--picture FILE.png]

Six axial slices of demo scans, 1 % noise, one sample. DDS is the solver that SCD is made of; DiffPIR with --steer shows
that any solver runs on the steered prior. TV has the best of twelve weights, chosen by the truth. Seconds are the
processor's, of all threads; memory is the largest of the process so far.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from common import header, table
from quality import TASKS, figures, scans, six_slices

from invdiff import reconstruct, simulate
from invdiff.comparison import best_tv
from invdiff.solvers import DDS, SCD, DiffPIR
from invdiff.steering import Steering

CASES = [
    ("ct_abdopelvis_3mm", "ct60", ("ellipses", "brain-mr", "ct-body")),
    ("epi_2mm", "mri4", ("brain-mr-complex",)),
    ("epi_2mm", "blur", ("brain-mr", "ellipses")),
    ("t1_2mm", "mri4", ("brain-mr-complex",)),
]
RUNS = [("dds", DDS(), None), ("scd", SCD(), Steering()), ("diffpir", DiffPIR(), None),
        ("diffpir --steer", DiffPIR(), Steering())]  # fmt: skip


def measured(volumes, scan, task):
    acquisition, noise, _ = TASKS[task]
    truth = six_slices(volumes[scan], acquisition.zero)
    return truth, simulate(truth, acquisition, noise=noise)


def rows(truth, m, priors, seeds):
    for prior in priors:
        for name, solver, steer in RUNS:
            began = time.process_time()
            r = reconstruct(m, solver, prior=prior, seeds=seeds, steer=steer)
            seconds = time.process_time() - began
            e, fit = figures(r.mean, truth), r.facts["data_fit"]["mean"]["chi2"]
            memory, steps = r.facts["machine"]["peak_memory_mib"], (r.facts["steering"] or {}).get("adam_steps")
            yield (
                [prior, name, f"{e['psnr']:.2f}", f"{e['ssim']:.3f}", f"{fit:.2f}", steps, f"{seconds:.0f}", memory],
                r,
            )


def picture(path, truth, m, tv, found):
    """One slice: truth, TV, and the prior before and after, with their errors below."""
    images = {"truth": truth, "TV": tv, "ellipses, dds": found["dds"].mean, "ellipses, scd": found["scd"].mean}
    low, high = m.acquisition.zero, float(np.quantile(truth.data.numpy(), 0.999))
    figure, axes = plt.subplots(2, 4, figsize=(11, 4.9), layout="constrained")
    for column, (name, volume) in enumerate(images.items()):
        plane, right = (v.data[0, :, :, 2].numpy().T[::-1] for v in (volume, truth))
        axes[0, column].imshow(plane, cmap="gray", vmin=low, vmax=high)
        axes[0, column].set_title(name if volume is truth else f"{name}: {figures(volume, truth)['psnr']:.1f} dB")
        axes[1, column].imshow(np.abs(plane - right), cmap="inferno", vmin=0, vmax=0.15 * (high - low))
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(path, dpi=90)


def main(args):
    volumes = dict(scans(args.scans))
    for scan, task, priors in CASES:
        if scan not in volumes or (args.scan and scan not in args.scan):
            continue
        truth, m = measured(volumes, scan, task)
        tv, weight = best_tv(m, truth)
        e = figures(tv, truth)
        lines = [["-", f"tv, weight {weight:.2g}", f"{e['psnr']:.2f}", f"{e['ssim']:.3f}", None, None, None, None]]
        found = {}
        for line, r in rows(truth, m, priors, range(args.samples)):
            lines.append(line)
            if line[0] == priors[0]:
                found[line[1]] = r
        columns = ["prior", "solver", "PSNR / dB", "SSIM", "chi2", "Adam steps", "s", "peak MiB so far"]
        table(f"{scan}, {task}, mean of {args.samples}" if args.samples > 1 else f"{scan}, {task}", columns, lines)
        if args.picture and task == "ct60":
            picture(args.picture, truth, m, tv, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--scan", nargs="*")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    header()
    main(parser.parse_args())
