"""Every solver on real scans that no prior was trained on: PSNR, SSIM, chi2, calls and seconds.

    python benchmarks/quality.py -o rows.jsonl [--scans DIR] [--scan epi_2mm ...] [--task mri4 ...] [--solver dps ...]
    python benchmarks/quality.py -o rows.jsonl --published
    python benchmarks/quality.py -o rows.jsonl --table

Six slices per scan: axial, from the middle 40 per cent; for z4 sagittal, so that the thick direction lies in the slice.
A row is written as soon as it is there, and a run goes on where the last one stopped. Samplers: one sample, the mean of
8 in pairs of opposite noise where a sample takes at most 100 network calls, and the deterministic variant. Baselines
have their best setting of twelve, chosen by the truth. Without --scans only the EPI scan inside nibabel is used.
Seconds are the processor's, of all threads. --published: one slice, one sample, 4x MRI, as many calls as the papers
take and parity = paper.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import header
from reconstruction import six_slices

from invdiff import load, reconstruct, registry, simulate
from invdiff.acquisitions import CT, MRI, Blur, Denoise, Inpaint, ThickSlices
from invdiff.comparison import best_tv
from invdiff.metrics import evaluate
from invdiff.operators import thick_slices
from invdiff.solvers import Wavelet
from invdiff.volumes import Volume
from invdiff_datasets import epi_2mm


@dataclass(frozen=True)
class ThickInPlane(ThickSlices):
    """Thick slices seen from the side: the thick direction is the last axis of each slice."""

    @property
    def volumetric(self):
        return False

    def operator(self, space, spacing, maps):
        del spacing, maps
        return thick_slices(space, 1, float(self.factor), float(self.factor), self.profile)


TASKS = {  # acquisition, noise, stored axis that counts the slices
    "mri4": (MRI(), 0.01, 2),
    "mri8": (MRI(acceleration=8, center_fraction=0.04), 0.01, 2),
    "blur": (Blur(fwhm=6.0), 0.01, 2),
    "z4": (ThickInPlane(factor=4), 0.01, 0),
    "inpaint50": (Inpaint(missing=0.5), 0.01, 2),
    "denoise": (Denoise(), 0.1, 2),
    "ct60": (CT(views=60), 0.01, 2),
    "ct-limited": (CT(views=120, arc=120.0), 0.01, 2),
}
OF_MR = ("mri4", "denoise", "blur", "inpaint50", "mri8", "z4")
OF_CT = ("ct60", "ct-limited")
BASELINES = ("adjoint", "direct", "cg", "tv", "wavelet")
# Tables of their own: steering.py, volumes.py, bridges.py.
ELSEWHERE = ("scd", "tpdm", "dds3d", "diffusionmbir", "i2sb", "cddb")
ONCE = ("dps", "rsd")  # above 100 calls, or of several particles: one sample
PUBLISHED = {
    "dps": {"steps": 1000}, "reddiff": {"steps": 1000}, "rsd": {"steps": 1000}, "flowdps": {"steps": 28},
    "ddrm": {"steps": 20}, "ddnm": {"steps": 100}, "ddnmplus": {"steps": 100}, "diffpir": {"steps": 100},
    "pigdm": {"steps": 100}, "mmps": {"steps": 100}, "dds": {"steps": 50}, "daps": {"steps": 200},
    "pnpdm": {"steps": 100}, "pnp": {"iterations": 50},
}  # fmt: skip


def six_sagittal(volume):
    """From the middle 40 per cent."""
    side = volume.data.shape[1]
    picks = torch.linspace(0.3 * side, 0.7 * side, 6).long()
    return Volume(volume.data[:, picks].clamp_min(0.0).contiguous(), volume.affine)


def scans(folder):
    yield "epi_2mm", epi_2mm()
    if folder:
        yield "t1_2mm", load(folder / "t1_2mm.nii.gz")
        yield "ct_abdopelvis_3mm", load(folder / "ct_abdopelvis_3mm.nii.gz")


def figures(volume, truth, axis=2):
    """PSNR over the volume and SSIM as the mean over slices."""
    a, b = (np.moveaxis(v.data[0].numpy(), axis, 2) for v in (volume, truth))
    e = evaluate(a, b)
    return {"psnr": round(e["psnr"], 3), "ssim": round(e["ssim"], 4)}


def solver_rows(name, m, truth, axis, dtype):
    """(variant, figures) of one solver."""
    cls = registry.find("solvers", name)
    solver = cls()
    began = time.process_time()
    seeds = range(1) if solver.gives != "sample" or name in ONCE else range(8)
    r = reconstruct(m, solver, seeds=seeds, dtype=dtype)
    seconds = round(time.process_time() - began, 1)
    cost = {"nfe": solver.nfe if cls.requirements()[2] is not type(None) else 0, "seconds": seconds}
    chi2 = {k: None if v["chi2"] is None else round(v["chi2"], 3) for k, v in r.facts["data_fit"].items()}
    if solver.gives != "sample":
        yield "point", figures(r.mean, truth, axis) | {"chi2": chi2["mean"]} | cost
        return
    one = m.volume(r.samples[0])
    yield "one", figures(one, truth, axis) | {"chi2": chi2["first_sample"]} | cost
    if len(seeds) > 1:
        yield "mean8", figures(r.mean, truth, axis) | {"chi2": chi2["mean"]} | cost
    if hasattr(solver, "zeta") and name not in ONCE:
        began = time.process_time()
        r = reconstruct(m, replace(solver, zeta=0.0), seeds=(0,), dtype=dtype)
        cost["seconds"] = round(time.process_time() - began, 1)
        yield "tau0", figures(r.mean, truth, axis) | {"chi2": chi2["mean"]} | cost


def baseline_rows(name, m, truth, axis, dtype):
    """TV and wavelets with their best weight."""
    began = time.process_time()
    if name == "tv":
        volume, weight = best_tv(m, truth)
        yield f"weight {weight:.2g}", figures(volume, truth, axis) | {"seconds": round(time.process_time() - began, 1)}
    elif name == "wavelet":
        runs = [(w, reconstruct(m, Wavelet(weight=w, iterations=60), seeds=(0,)).mean)
                for w in np.geomspace(1e-4, 0.3, 12)]  # fmt: skip
        weight, volume = max(runs, key=lambda run: figures(run[1], truth, axis)["psnr"])
        yield f"weight {weight:.2g}", figures(volume, truth, axis) | {"seconds": round(time.process_time() - began, 1)}
    else:
        yield from solver_rows(name, m, truth, axis, dtype)


def run(args):
    done = {(r["scan"], r["task"], r["solver"]) for r in read(args.output)}
    known = [name for name in registry.names("solvers") if name not in ELSEWHERE]
    for scan, volume in scans(args.scans):
        is_ct = scan.startswith("ct")
        for task in OF_CT if is_ct else OF_MR:
            if (args.scan and scan not in args.scan) or (args.task and task not in args.task):
                continue
            acquisition, noise, axis = TASKS[task]
            truth = six_sagittal(volume) if axis == 0 else six_slices(volume, acquisition.zero)
            m = simulate(truth, acquisition, noise=noise, axis=axis)
            for name, cls in registry.names("solvers").items():
                admitted = isinstance(m.problem().operator, cls.requirements()[0])
                if not admitted or (scan, task, name) in done or name not in (args.solver or known):
                    continue
                rows = partial(baseline_rows if name in BASELINES else solver_rows, name)
                write(args.output, scan, task, name, rows(m, truth, axis, args.dtype))


def published(args):
    volume = next(scans(None))[1]
    acquisition, noise, _ = TASKS["mri4"]
    truth = six_slices(volume, acquisition.zero)
    truth = replace(truth, data=truth.data[..., 3:4].contiguous())
    m = simulate(truth, acquisition, noise=noise)
    done = {r["solver"] for r in read(args.output) if r["task"] == "mri4, one slice"}
    for name, settings in PUBLISHED.items():
        if name not in done:
            write(args.output, "epi_2mm", "mri4, one slice", name, published_row(name, settings, m, truth, args.dtype))


def published_row(name, settings, m, truth, dtype):
    """One sample as published."""
    cls = registry.find("solvers", name)
    parity = {"parity": "paper"} if hasattr(cls, "parity") else {}
    solver = cls(**settings, **parity)
    began = time.process_time()
    r = reconstruct(m, solver, seeds=(0,), dtype=dtype, width=1)
    fit = {"chi2": round(r.facts["data_fit"]["mean"]["chi2"], 3), "nfe": solver.nfe}
    yield "published", figures(r.mean, truth) | fit | {"seconds": round(time.process_time() - began, 1)}


def write(path, scan, task, name, rows):
    lines = []
    try:
        lines = [{"variant": v, **f} for v, f in rows]
    except Exception as e:
        lines = [{"variant": "failed", "why": f"{type(e).__name__}: {e}"}]
    with path.open("a") as f:
        for line in lines:
            row = {"scan": scan, "task": task, "solver": name} | line
            f.write(json.dumps(row) + "\n")
            print(row, flush=True)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(path):
    """Two kinds of table in Markdown: a line per task, and for each task a line per solver."""
    found = {}
    for r in read(path):
        found.setdefault((r["scan"], r["task"]), {}).setdefault(r["solver"], {})[r["variant"].split()[0]] = r
    columns = [("tv", "weight"), ("pnp", "point"), *((s, v) for s in ("diffpir", "mmps") for v in ("one", "mean8"))]
    print("| scan | task | TV | `pnp` | `diffpir`, one sample | mean of 8 | `mmps`, one sample | mean of 8 |")
    print("|" + "---|" * (2 + len(columns)))
    for (scan, task), solvers in found.items():
        cells = [solvers.get(s, {}).get(v) for s, v in columns]
        if any(cells):
            both = [f"{c['psnr']:.2f}, {c['ssim']:.3f}" if c else "" for c in cells]
            print(f"| `{scan}` | {task} | {' | '.join(both)} |")
    for (scan, task), solvers in found.items():
        print(f"\n`{scan}`, {task}:\n\n| solver | calls | one sample | mean of 8 | deterministic | chi2 of one | s |")
        print("|---|---|---|---|---|---|---|")
        for name, rows in sorted(solvers.items(), key=lambda item: -max(r.get("psnr", 0) for r in item[1].values())):
            print(solver_line(name, rows))


def solver_line(name, rows):
    first = next(iter(rows.values()))
    if "failed" in rows:
        return f"| `{name}` | | {first['why']} | | | | |"
    cells = [f"{rows[v]['psnr']:.2f}, {rows[v]['ssim']:.3f}" if v in rows else "" for v in ("one", "mean8", "tau0")]
    cells[0] = cells[0] or f"{first['psnr']:.2f}, {first['ssim']:.3f} (point)"
    nfe, chi2, seconds = (first.get(k) for k in ("nfe", "chi2", "seconds"))
    costs = ["" if chi2 is None else f"{chi2:.2f}", "" if seconds is None else f"{seconds:.0f}"]
    return f"| `{name}` | {nfe or '-'} | {' | '.join(cells + costs)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--scan", nargs="*")
    parser.add_argument("--task", nargs="*", choices=TASKS)
    parser.add_argument("--solver", nargs="*")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        show(arguments.output)
    else:
        header()
        published(arguments) if arguments.published else run(arguments)
