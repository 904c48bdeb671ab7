"""kill -9 of workers, scheduler and client: the same command ends at the tree of an undisturbed run."""

import gzip
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from .conftest import content, start, told

LONG = ("--acquisition", "mri", "--samples", 2, "--steps", 12)


def spawned(process):
    """Workers of a client or of their nanny."""
    try:
        return [
            p for p in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())
        ]
    except psutil.NoSuchProcess:
        return []


def whole(folder):
    """Every file under a final name can be read to its end."""
    for path in folder.rglob("*.nii.gz"):
        if ".work" not in path.parts:
            with gzip.open(path) as file:
                assert len(file.read()) > 352


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)
    assert condition()


class Cluster:
    """A scheduler and two workers, each in a process of its own, that come back when they are gone."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def __enter__(self):
        self.file = self.folder / f"scheduler{time.monotonic_ns()}.json"
        common = (sys.executable, "-m", "dask")
        self._start(
            *common, "scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", self.file
        )
        until(self.file.exists)
        for _ in range(2):
            self._start(*common, "worker", "--scheduler-file", self.file, "--nthreads", 1, "--memory-limit", 0,
                        "--no-dashboard", "--local-directory", self.folder, "--death-timeout", 5)  # fmt: skip
        return self

    def _start(self, *command):
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(subprocess.Popen([*map(str, command)], env=env, **quiet))

    @property
    def address(self):
        import json

        return json.loads(self.file.read_text())["address"]

    @property
    def workers(self):
        return [p for nanny in self.processes[1:] for p in spawned(nanny)]

    def __exit__(self, *_):
        for process in self.processes:
            for child in [*spawned(process), process]:
                child.kill()
        for process in self.processes:
            process.wait(20)


def test_worker_and_client(scans, tmp_path, batch):
    """A worker dies and is replaced; the client dies, and its workers with it; the next call goes on."""
    out, plain = tmp_path / "out", tmp_path / "plain"
    assert batch(scans, "-o", plain, *LONG).code == 0
    client = start(scans, "-o", out, *LONG, "--workers", 2)
    until(lambda: list(out.glob(".work/*/lock")))
    workers = spawned(client)
    workers[0].kill()
    until(lambda: list(out.glob("s*_desc-mean.nii.gz")))
    client.kill()
    client.wait(20)
    until(lambda: not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers))
    whole(out)
    again = batch(scans, "-o", out, *LONG)
    assert again.code == 0, again.err
    assert "of 3 scans are done already" in again.err
    assert content(out) == content(plain)
    assert not (out / ".work").exists()


def test_interrupted(scans, tmp_path, cli):
    """Meanwhile no other run may write there. Ctrl-C: what is done is told, and the exit code is 130."""
    out, long = tmp_path / "out", (*LONG, "--steps", 60)
    client = start(scans, "-o", out, *long, "--workers", 1, preexec_fn=_heard)
    until(lambda: list(out.glob(".work/*/lock")))
    second = cli("batch", scans, "-o", out, *long)
    client.send_signal(signal.SIGINT)
    errors = client.communicate(timeout=60)[1]
    assert client.returncode == 130, errors
    assert "of 3 scans to go; the same command goes on" in errors
    assert told(out)["failures"] == []
    assert second.code == 2
    assert "another run writes into" in second.err


def _heard():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_twenty_kills(tmp_path, write):
    """At random moments, over 12 scans: a worker, the scheduler, or the client."""
    for n in range(12):
        write(tmp_path / "in" / f"s{n:02d}.nii.gz", n)
    scans, out, plain = tmp_path / "in", tmp_path / "out", tmp_path / "plain"
    assert start(scans, "-o", plain, *LONG, "--workers", 2).wait(900) == 0
    chance, killed = random.Random(0), {"worker": 0, "scheduler": 0, "client": 0}
    while sum(killed.values()) < 20:
        with Cluster(tmp_path) as cluster:
            until(lambda: len(cluster.workers) == 2)
            client = start(scans, "-o", out, *LONG, "--scheduler", cluster.address)
            while client.poll() is None and sum(killed.values()) < 20:
                time.sleep(chance.uniform(0.2, 6))
                victim = chance.choice([*killed])
                targets = {"worker": cluster.workers, "scheduler": cluster.processes[:1], "client": [client]}[victim]
                if targets and client.poll() is None:
                    chance.choice(targets).kill()
                    killed[victim] += 1
                    whole(out)
                if victim != "worker":
                    break
            client.communicate(timeout=300)
        if (out / "results.tsv").exists() and len(list(out.glob("*_desc-std.nii.gz"))) == 12:
            for path in chance.sample(sorted(out.glob("*_desc-mean.json")), 8):  # more to do, and more to kill
                path.unlink()
                for part in out.glob(path.name.replace("mean.json", "*.nii.gz")):
                    part.unlink()
    final = start(scans, "-o", out, *LONG, "--workers", 2)
    errors = final.communicate(timeout=900)[1]
    assert final.returncode == 0, errors
    assert min(killed.values()) >= 3, killed
    assert content(out) == content(plain)
    assert not (out / ".work").exists()
