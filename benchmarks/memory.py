"""Memory and time before the start against what runs took: python benchmarks/memory.py --scans DIR [--only NAME ...]

Each case is a measurement of the demo T1 scan, or of the CT scan, resampled to another size: one sample, 3 steps, the
network of the acquisition. `invdiff plan` and `invdiff reconstruct` run one after the other in processes of their own;
the peak is the resident memory of the process, as the system counts it. `--only pace` instead compares a whole run with
the network alone at its best batch, in turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from common import header, table
from scipy.ndimage import zoom

from invdiff import load, measurements, reconstruct, simulate
from invdiff.acquisitions import CT, MRI
from invdiff.learned import learned
from invdiff.preparation import default_width
from invdiff.rehearsal import Call
from invdiff.solvers import DiffPIR
from invdiff.volumes import Volume

T1, BODY = "t1_2mm", "ct_abdopelvis_3mm"
LIMIT = ("--mem-gb", "8")
CASES = {  # scan, size, acquisition, flags
    "planes 16": (T1, (256, 256, 16), MRI(), ("--planes", "2,0", *LIMIT)),
    "planes 40": (T1, (256, 256, 40), MRI(), ("--planes", "2,0", *LIMIT)),
    "planes 80": (T1, (256, 256, 80), MRI(), ("--planes", "2,0", *LIMIT)),
    "planes 160": (T1, (256, 256, 160), MRI(), ("--planes", "2,0", *LIMIT)),
    "slices 16": (T1, (256, 256, 16), MRI(), LIMIT),
    "slices 160": (T1, (256, 256, 160), MRI(), LIMIT),
    "slices 40, 8 samples": (T1, (256, 256, 40), MRI(), (*LIMIT, "--samples", "8", "--steps", "1")),
    "planes 160, 2 GiB": (T1, (256, 256, 160), MRI(), ("--planes", "2,0", "--mem-gb", "2")),
    "3-D MRI": (T1, (160, 160, 64), MRI(dimension="3d", pattern="poisson"), LIMIT),
    "4 coils": (T1, (256, 256, 16), MRI(coils=4), LIMIT),
    "CT": (BODY, (122, 101, 32), CT(views=60), LIMIT),
    "dps, slices 8": (T1, (256, 256, 8), MRI(), ("--solver", "dps", *LIMIT)),
    "dps, slices 8, 1 GiB": (T1, (256, 256, 8), MRI(), ("--solver", "dps", "--mem-gb", "1")),
    "dps, planes 24": (T1, (192, 192, 24), MRI(), ("--solver", "dps", "--planes", "2", *LIMIT)),
    "mmps, slices 8": (T1, (192, 192, 8), MRI(), ("--solver", "mmps", *LIMIT)),
    "scd, slices 8": (T1, (128, 128, 8), MRI(), ("--solver", "scd", "--set", "steer.levels=6", *LIMIT)),
    "tv, slices 16": (T1, (256, 256, 16), MRI(), ("--solver", "tv", "--set", "iterations=5", *LIMIT)),
}
SMALL = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""  # what a process took counts from the size of the one that started it
COLUMNS = ["case", "calls of", "predicted", "measured", "ratio", "plan s", "predicted s", "run s"]


def measured(scan, size, acquisition, path):
    volume = load(scan)
    data = zoom(volume.data[0].numpy(), [n / m for n, m in zip(size, volume.data.shape[1:], strict=True)], order=1)
    data = torch.from_numpy(data)[None].float()
    data = data.clamp_min(0) if acquisition.zero == 0 else data
    measurements.save(path, simulate(Volume(data, volume.affine), acquisition, noise=0.01), force=True)


def command(*words):
    """Seconds, peak in MiB and stdout of a command of invdiff."""
    began = time.perf_counter()
    line = [sys.executable, "-c", SMALL, sys.executable, "-m", "invdiff_cli", *words]
    *out, peak = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return time.perf_counter() - began, int(peak) / 1024, "\n".join(out)


def row(name, scans, folder):
    scan, size, acquisition, flags = CASES[name]
    y, recon = folder / "y.h5", folder / "recon.nii"
    measured(scans / f"{scan}.nii.gz", size, acquisition, y)
    short = () if "tv" in flags or "--steps" in flags else ("--steps", "3")
    flags = (*(() if "--samples" in flags else ("--samples", "1")), *short, *flags)
    planning, _, out = command("plan", str(y), *flags, "--json")
    plan = json.loads(out)
    _, peak, _ = command("reconstruct", str(y), "-o", str(recon), "--force", *flags)
    facts = json.loads(recon.with_suffix(".json").read_text())
    chosen = facts["memory"]
    batch = chosen["slices"] if "--planes" in flags or "3-D" in name else chosen["width"]
    batch = str(batch) if chosen["window"] is None else f"{batch}, windows {chosen['window']}"
    ratio = plan["peak_mib"] / peak
    return [name, batch, plan["peak_mib"], round(peak), f"{ratio:.2f}", f"{planning:.0f}", f"{plan['seconds']:.0f}",
            f"{sum(facts['seconds'].values()):.0f}"]  # fmt: skip


def pace(scans, folder, rounds=8, steps=6):
    """Medians of processor seconds per slice and step: of runs, and of the network alone, in turns."""

    def seconds(call):
        began = time.process_time()
        call.run()
        return time.process_time() - began

    measured(scans / f"{T1}.nii.gz", (256, 256, 16), MRI(), folder / "y.h5")
    m = measurements.load(folder / "y.h5")
    own = default_width(m)
    prior = learned(DiffPIR(), m, None, dtype="auto", device=torch.device("cpu"), width=own).model
    bare = {w: Call(prior.net, (w, 2, 256, 256), prior.dtype, torch.device("cpu")) for w in (1, 2, 3, 4, 6, 8)}
    times = {w: [] for w in (*bare, "run")}
    checks = []
    for call in bare.values():
        call.run()
    for _ in range(rounds):
        for w, call in bare.items():
            times[w] += [seconds(call) / w for _ in range(16 // w)]
        marks = []
        facts = reconstruct(
            m, DiffPIR(steps=steps), seeds=(0,), callback=lambda it, t=marks: t.append(time.process_time())
        ).facts
        times["run"] += [(b - a) / own for a, b in pairwise(marks)]
        checks.append(facts["seconds"]["plan"])
    median = {w: statistics.median(t) for w, t in times.items()}
    best = min(bare, key=median.get)
    rows = [[w, f"{1e3 * t:.1f}", f"{t / median[best]:.3f}"] for w, t in median.items()]
    table("256 x 256, diffpir, processor ms per slice and step", ["slices per call", "ms", "over the best"], rows)
    print(f"a run takes {own} per call; its check before the start took {statistics.median(checks):.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[*CASES, "pace"], default=list(CASES))
    arguments = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory() as folder:
        chosen = [name for name in arguments.only if name != "pace"]
        if "pace" in arguments.only:
            pace(arguments.scans, Path(folder))
        rows = []
        for name in chosen:
            rows.append(row(name, arguments.scans, Path(folder)))
            print(rows[-1], flush=True)
        if rows:
            table("memory in MiB", COLUMNS, rows)
