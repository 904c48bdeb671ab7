"""What every table says of where it was measured, and how it is printed. No host names, no paths."""

import platform
import subprocess
from pathlib import Path

import torch

from invdiff.priors.network import pick_dtype


def header():
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dtype = str(pick_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    print(f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, network in {dtype}")
    print(f"commit {commit.stdout.strip() or 'unknown'}\n")


def table(title, columns, rows):
    cells = [columns, *[[("-" if c is None else str(c)) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(title)
    for row in cells:
        print(
            "  "
            + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        )
    print(flush=True)
