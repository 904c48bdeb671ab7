import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest

QUICK = ("--acquisition", "mri", "--samples", 2, "--steps", 3, "--axis", 2)


@pytest.fixture(scope="session")
def block(small_volume):
    image = nibabel.load(small_volume)
    return np.asarray(image.dataobj, np.float32)[:32, :32], image.affine


@pytest.fixture
def write(block):
    """Write a real scan of 32 x 32 x 4 voxels, another one for each number."""

    def scan(path, number=0, change=lambda x: x):
        data, affine = block
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(change(np.roll(data, number, 0) + number), affine), path)
        return path

    return scan


CLUSTER = """
import dask, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The address of a cluster of two workers in processes of their own."""
    path = tmp_path_factory.mktemp("cluster") / "cluster.py"
    path.write_text(CLUSTER)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, path], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.communicate("", timeout=60)


@pytest.fixture
def batch(running, cli, monkeypatch, tmp_path, socket_enabled):
    """`invdiff batch` from here on that cluster."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: cli("batch", *args, "--scheduler", running)


@pytest.fixture
def scans(tmp_path, write):
    """A folder of three scans."""
    for n in range(3):
        write(tmp_path / "in" / f"s{n}.nii.gz", n)
    return tmp_path / "in"


def told(folder):
    return json.loads((folder / "run_report.json").read_text())


def content(folder):
    """Bytes of every file, without time stamps, durations and what the machine had free."""
    return {str(p.relative_to(folder)): timeless(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def timeless(path):
    if path.name == "results.tsv":
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        at = lines[0].index("seconds")
        return [line[:at] + line[at + 1 :] for line in lines]
    if path.suffix != ".json":
        return path.read_bytes()
    return without(json.loads(path.read_text()))


def without(value):
    passing = {"seconds", "memory", "peak_memory_mib", "command_line"}
    if isinstance(value, dict):
        return {k: without(v) for k, v in value.items() if k not in passing}
    return [without(v) for v in value] if isinstance(value, list) else value


def start(*args, **more):
    """`python -m invdiff_cli batch ...` in the background."""
    command = [sys.executable, "-m", "invdiff_cli", "batch", *map(str, args)]
    env = more.pop("env", os.environ) | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)
