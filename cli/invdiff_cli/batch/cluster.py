"""Where a batch runs: workers on this machine, a running dask cluster, or Slurm. Always dask.distributed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from invdiff.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CONNECT = "5s"
LOST = 3  # workers that a scan may take down with it before it counts as broken


@contextmanager
def connected(
    *, workers: int, threads: int, scheduler: str | None = None, slurm: dict[str, str] | None = None
) -> Iterator[Client]:
    """A client of a cluster, which ends with it if it was started here.

    Args:
        workers: processes, each with one scan at a time.
        threads: of each.
        scheduler: address of a running one, e.g. tcp://10.0.0.1:8786; its workers see the same files.
        slurm: settings of `dask_jobqueue.SLURMCluster`.

    Raises:
        ConfigError: no scheduler answers; dask-jobqueue is missing, or a setting is not one of its.
    """
    import dask
    from distributed import Client

    settings = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(POOLS, str(threads)),
        "distributed.scheduler.allowed-failures": LOST,
        "distributed.comm.timeouts.connect": CONNECT,
        "distributed.admin.low-level-log-length": 0,
    }
    with dask.config.set(settings):
        if scheduler:
            with _client(scheduler) as client:
                yield client
            return
        with _slurm(workers, threads, slurm) if slurm is not None else _local(workers) as cluster:
            with Client(cluster) as client:
                yield client


def count(asked: int | None, threads: int, scans: int, device: str) -> int:
    """How many workers: one per GPU, or as the cores go round among their threads; no more than scans."""
    if asked:
        return min(asked, max(scans, 1))
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return min(torch.cuda.device_count(), max(scans, 1))
    return max(1, min((os.cpu_count() or 1) // threads, scans))


def _local(workers: int) -> Any:  # noqa: ANN401 - a cluster of dask
    from distributed import LocalCluster

    # Memory is announced and watched by the plan of each reconstruction; dask would kill what it cannot spill.
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address="127.0.0.1:0"
    )


def _client(address: str) -> Client:
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT)
    except (OSError, ValueError, TimeoutError) as e:
        told = f"{type(e).__name__}: {str(e).splitlines()[0]}" if str(e) else type(e).__name__
        raise ConfigError(
            f"no scheduler answers at {address} ({told}); start one with `dask scheduler`, or leave --scheduler"
        ) from e


def _slurm(workers: int, threads: int, settings: dict[str, Any]) -> Any:  # noqa: ANN401 - a cluster of dask
    try:
        from dask_jobqueue import SLURMCluster  # type: ignore[attr-defined]
    except ImportError as e:
        raise ConfigError('Slurm needs dask-jobqueue; pip install "invdiff[slurm]"') from e
    given = {"cores": 1, "processes": 1, "memory": "8GiB", "job_cpu": threads, "python": sys.executable} | settings
    exports = [f"export {name}={threads}" for name in POOLS]
    try:
        cluster: Any = SLURMCluster(**given, job_script_prologue=exports)  # type: ignore[arg-type]
    except (TypeError, ValueError) as e:
        raise ConfigError(f"--set slurm.KEY=VALUE: {str(e).splitlines()[0]}; see dask_jobqueue.SLURMCluster") from e
    cluster.scale(workers)
    return cluster
