"""Workers of other kinds: Slurm, whose sbatch starts the real job script here, and a hundred scans in one worker."""

import csv
import json
import os
import sys
import time

import numpy as np
import psutil
import pytest

from invdiff.errors import ConfigError
from invdiff_cli.batch.cluster import connected, count
from invdiff_cli.batch.engine import device_of

from .conftest import QUICK, content, start, told
from .test_batch import nan

SBATCH = """#!{python}
import subprocess, sys
with open({log!r}, "a") as log:
    log.write(open(sys.argv[-1]).read())
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
job = subprocess.Popen(["bash", sys.argv[-1]], start_new_session=True, **quiet)
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!/bin/sh
kill -- -$1
"""


@pytest.fixture
def slurm(tmp_path):
    """PATH with a Slurm of one machine; what was submitted is in jobs.txt."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "jobs.txt"
    for name, text in {"sbatch": SBATCH.format(python=sys.executable, log=str(log)), "scancel": SCANCEL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}, log


@pytest.mark.slow
def test_slurm(scans, tmp_path, slurm, batch):
    env, log = slurm
    how = ("--slurm", "--set", "slurm.queue=short", "--set", "slurm.walltime=00:10:00", "--workers", 1)
    done = start(scans, "-o", tmp_path / "out", *QUICK, *how, env=os.environ | env)
    errors = done.communicate(timeout=200)[1]
    assert done.returncode == 0, errors
    jobs = log.read_text()
    assert "#SBATCH -p short" in jobs
    assert "#SBATCH -t 00:10:00" in jobs
    assert "export OMP_NUM_THREADS=1" in jobs
    assert batch(scans, "-o", tmp_path / "here", *QUICK).code == 0
    assert content(tmp_path / "out") == content(tmp_path / "here")


def test_slurm_refuses(socket_enabled):
    with pytest.raises(ConfigError, match=r"--set slurm.KEY=VALUE: .*qeue.*; see dask_jobqueue.SLURMCluster"):
        with connected(workers=1, threads=1, slurm={"qeue": "short"}):
            pass


def test_how_many_workers():
    cores = os.cpu_count()
    assert count(None, 1, 1000, "cpu") == cores
    assert count(None, cores, 1000, "cpu") == 1
    assert count(None, 1, 1, "cpu") == 1
    assert count(5, 1, 1000, "cpu") == 5


def test_a_worker_per_gpu(monkeypatch):
    """By what torch says of a machine with four; none has run on such a one."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert count(None, 1, 1000, "cuda") == 4
    assert count(None, 1, 3, "cuda") == 3
    assert [device_of("cuda", str(n)) for n in range(5)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0"]
    assert device_of("cuda:2", "0") == "cuda:2"
    assert device_of("cpu", "1") == "cpu"
    assert count(5, 1, 3, "cpu") == 3


@pytest.mark.slow
def test_a_hundred_scans(tmp_path, write):
    """One corrupt, one with NaN, one of two axes: 97 results, three failures; memory does not grow with the scans."""
    scans, rng = tmp_path / "in", np.random.default_rng(0)

    def cube(x):
        return np.clip(np.resize(x, (32, 32, 32)) + rng.normal(0, 1, (32, 32, 32)), 0, None).astype(np.float32)

    for n in range(97):
        write(scans / f"s{n:02d}.nii.gz", n, cube)
    write(scans / "s97.nii.gz", 97, lambda x: nan(cube(x)))
    write(scans / "s98.nii.gz", 98, lambda x: cube(x)[..., 0])
    (scans / "s99.nii.gz").write_bytes((scans / "s00.nii.gz").read_bytes()[:5000])
    how = ("--acquisition", "mri", "--solver", "pnp", "--set", "iterations=2", "--workers", 1)
    client, peak = start(scans, "-o", tmp_path / "out", *how), {}
    while client.poll() is None:
        done = len(list((tmp_path / "out").glob("*_desc-mean.json")))
        for child in psutil.Process(client.pid).children(recursive=True):
            peak[done] = max(peak.get(done, 0), child.memory_info().rss)
        time.sleep(0.2)
    assert client.returncode == 3, client.stderr.read()
    report = told(tmp_path / "out")
    assert len(report["results"]) == 97
    assert {row["name"]: row["kind"] for row in report["failures"]} == {
        "s97": "FileError", "s98": "GeometryError", "s99": "FileError"
    }  # fmt: skip
    with (tmp_path / "out" / "failures.tsv").open(newline="") as file:
        assert len(list(csv.DictReader(file, delimiter="\t"))) == 3
    early, late = (max(v for k, v in peak.items() if k in of) for of in (range(10, 25), range(85, 98)))
    print(json.dumps({"MiB early": early / 2**20, "MiB late": late / 2**20}))
    assert late < 1.05 * early
