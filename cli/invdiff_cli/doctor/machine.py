"""The computer: processor and who else uses it, memory, devices, and the precision of the network."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from invdiff import memory
from invdiff.preparation import pick_device
from invdiff.priors.network import pick_dtype
from invdiff_cli.doctor.finding import OK, PROBLEM, WARNING, Finding

GROUP = "machine"
GIB = 2**30
LITTLE, TOO_LITTLE = 3 * GIB, GIB  # free memory; a small 2-D run takes 0.6 to 1 GiB (docs/speed.md)
BUSY = 0.75  # load per core of the last minute


def findings() -> Iterator[Finding]:
    """Lines on processor, threads, load, memory, devices and precision."""
    cores = usable_cores()
    yield Finding(GROUP, "processor", f"{_model()}, {cores} of {os.cpu_count()} cores may be used")
    yield threads(cores, torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
    yield load(cores, psutil.getloadavg()[0])
    yield memory_left(memory.free(torch.device("cpu")), psutil.virtual_memory().total)
    yield from _devices()
    yield _precision()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(cores: int, used: int, told: str | None) -> Finding:
    """Whether torch runs no more threads than there are cores."""
    found = f"torch uses {used}, OMP_NUM_THREADS is {told or 'not set'}"
    if used > cores:
        return Finding(GROUP, "threads", found, WARNING, f"more than cores are slower: export OMP_NUM_THREADS={cores}")
    return Finding(GROUP, "threads", found)


def load(cores: int, running: float) -> Finding:
    """Whether others are busy."""
    found = f"{running:.1f} processes wanted to run in the last minute, on {cores} cores"
    if running > BUSY * cores:
        return Finding(
            GROUP,
            "load",
            found,
            WARNING,
            "others are busy: runs take longer; fewer threads (OMP_NUM_THREADS=1) may help",
        )
    return Finding(GROUP, "load", found)


def memory_left(free: int, total: int) -> Finding:
    """Whether there is enough to start with."""
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free"
    if free < TOO_LITTLE:
        return Finding(GROUP, "memory", found, PROBLEM, "close other programs, or use another computer")
    if free < LITTLE:
        return Finding(GROUP, "memory", found, WARNING, "ask before a run: invdiff plan y.h5; --mem-gb makes it fit")
    return Finding(GROUP, "memory", found, OK)


def _devices() -> Iterator[Finding]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for k in range(count):
        about = torch.cuda.get_device_properties(k)
        yield Finding(GROUP, f"cuda:{k}", f"{about.name}, {about.total_memory / GIB:.1f} GiB")
    if torch.backends.mps.is_available():
        yield Finding(
            GROUP, "mps", f"{torch.mps.recommended_max_memory() / GIB:.1f} GiB; used if asked for, --device mps"
        )
    yield Finding(
        GROUP, "device", f"{pick_device('auto')} is used unless --device says otherwise; {count} CUDA devices"
    )


def _precision() -> Finding:
    """bfloat16 or not: AMX makes it faster, AVX-512 alone does not."""
    device = pick_device("auto")
    dtype = str(pick_dtype("auto", device)).removeprefix("torch.")
    has = {"AMX": torch.cpu._is_amx_tile_supported(), "AVX-512 bf16": torch.cpu._is_avx512_bf16_supported()}
    told = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in has.items())
    return Finding(GROUP, "precision", f"the network runs in {dtype} on {device}; processor: {told}")


def _model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
