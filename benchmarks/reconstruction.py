"""Reconstruction of real scans that no prior was trained on: PSNR, SSIM, chi2 and time, one table.

    python benchmarks/reconstruction.py [--scans DIR] [--task mri4 ...]

Without --scans only the EPI scan inside nibabel is used; DIR may hold t1_2mm.nii.gz (`invdiff_datasets.cards()` says
where it is found). Six axial slices per scan. TV has its best weight of 12, chosen by the truth.
"""

import argparse
import time
from pathlib import Path

import torch
from common import header, table

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import CT, MRI, Blur, Denoise, Inpaint, LowRes
from invdiff.comparison import best_tv
from invdiff.metrics import evaluate
from invdiff.solvers import CG, DPS, Adjoint, DiffPIR
from invdiff.volumes import Volume
from invdiff_datasets import epi_2mm

TASKS = {
    "mri4": (MRI(), 0.01),
    "mri8": (MRI(acceleration=8, center_fraction=0.04), 0.01),
    "ct60": (CT(views=60), 0.01),
    "blur": (Blur(fwhm=6.0), 0.01),
    "lowres": (LowRes(factor=2), 0.01),
    "inpaint": (Inpaint(missing=0.5), 0.01),
    "denoise": (Denoise(), 0.1),
}
PUBLISHED = {"order": 1, "tau": "constant", "zeta": 0.3}


def six_slices(volume: Volume, air: float = 0.0) -> Volume:
    """Axial, from the middle 40 per cent; values below air are air."""
    depth = volume.data.shape[3]
    picks = torch.linspace(0.3 * depth, 0.7 * depth, 6).long()
    return Volume(volume.data[..., picks].clamp_min(air).contiguous(), volume.affine)


def row(name, measurement, truth, solver, seeds, **options):
    began = time.perf_counter()
    r = reconstruct(measurement, solver, seeds=seeds, **options)
    seconds = time.perf_counter() - began
    return measured_row(name, r.mean, truth, r.facts["data_fit"]["mean"]["chi2"], r.facts["network_calls"], seconds)


def measured_row(name, volume, truth, chi2, calls, seconds):
    e = evaluate(volume.data[0].numpy(), truth.data[0].numpy())
    return [
        name,
        f"{e['psnr']:.2f}",
        f"{e['ssim']:.3f}",
        chi2 if chi2 is None else f"{chi2:.2f}",
        calls,
        f"{seconds:.1f}",
    ]


def run(scan, truth, task):
    acquisition, noise = TASKS[task]
    m = simulate(truth, acquisition, noise=noise)
    began = time.perf_counter()
    tv, weight = best_tv(m, truth)
    rows = [
        row("adjoint", m, truth, Adjoint(), (0,)),
        row("cg", m, truth, CG(), (0,)),
        measured_row(f"tv, weight {weight:.2g} of 12", tv, truth, None, 0, time.perf_counter() - began),
        row("diffpir, mean of 8", m, truth, DiffPIR(), range(8)),
        row("diffpir, mean of 8 independent", m, truth, DiffPIR(), range(8), antithetic=False),
        row("diffpir, one sample", m, truth, DiffPIR(), (0,)),
        row("diffpir, zeta = 0", m, truth, DiffPIR(zeta=0.0), (0,)),
        row("diffpir as published, 100 levels", m, truth, DiffPIR(steps=100, **PUBLISHED), (0,)),
        row("diffpir, mean of 8, float32", m, truth, DiffPIR(), range(8), dtype="float32"),
        row("dps, one sample", m, truth, DPS(), (0,)),
    ]
    table(f"{scan}, {task}, noise {noise:g}", ["method", "PSNR/dB", "SSIM", "chi2", "calls of 8", "s"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--task", nargs="*", choices=TASKS, default=["mri4"])
    args = parser.parse_args()
    scans = {"epi_2mm": six_slices(epi_2mm())}
    if args.scans:
        scans["t1_2mm"] = six_slices(load(args.scans / "t1_2mm.nii.gz"))
    header()
    for scan, truth in scans.items():
        for task in args.task:
            run(scan, truth, task)
