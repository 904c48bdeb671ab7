"""Jobs to workers, rows back: nothing twice, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from invdiff.errors import InvdiffError
from invdiff_cli.batch.jobs import Job
from invdiff_cli.batch.work import work

if TYPE_CHECKING:
    from distributed import Client

TOPIC = "invdiff"
LOST = "WorkerLost"  # a failure that says nothing of the scan: it is tried again


class ClusterError(InvdiffError):
    """The scheduler went away, or never had a worker."""

    exit_code = 3


def computed(client: Client, jobs: Sequence[Job], heard: Callable[[dict[str, Any]], None]) -> Iterator[dict[str, Any]]:
    """A row for each job, as they are ready.

    Args:
        client: of a cluster.
        jobs: to be done, in this order if workers are few.
        heard: is told {"worker", "name", "step", "of"} now and then, from another thread.

    Raises:
        ClusterError: the scheduler went away.
    """
    from distributed import as_completed

    client.subscribe_topic(TOPIC, lambda event: heard(event[1]))
    futures = {client.submit(on_worker, job, key=f"{job.scan.name}-{job.key[:16]}", pure=False): job for job in jobs}
    left = len(futures)
    for future in as_completed(list(futures)):
        job = futures.pop(future)
        if future.status == "finished":
            yield future.result()
        elif future.status == "error":
            yield _lost(job, future.exception())
        else:
            raise ClusterError(
                f"the scheduler went away with {left} of {len(jobs)} scans to go; the same command goes on from there"
            )
        left -= 1
        future.release()


def on_worker(job: Job) -> dict[str, Any]:
    """`work`, telling its progress twice a second at most."""
    import time
    from dataclasses import replace

    from distributed import get_worker

    worker, last = get_worker(), 0.0
    name = str(worker.name)

    def tell(step: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.5 or step == of:
            last = now
            worker.log_event(TOPIC, {"worker": name, "name": job.scan.name, "step": step, "of": of})

    return work(replace(job, run=job.run | {"device": device_of(job.run["device"], name)}), tell)


def device_of(asked: str, worker: str) -> str:
    """With several GPUs worker n has the n-th of them."""
    if asked not in ("auto", "cuda") or not worker.isdigit():
        return asked
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{int(worker) % gpus}" if gpus else asked


def _lost(job: Job, error: BaseException | None) -> dict[str, Any]:
    """The row of a scan whose workers died: out of memory, as a rule."""
    reason = (
        "its workers died under it, most likely for want of memory; give fewer --workers, or a smaller scan"
        if type(error).__name__ == "KilledWorker"
        else " ".join(str(error).split())
    )
    return {"name": job.scan.name, "input": str(job.scan.source), "kind": LOST, "reason": reason, "key": job.key}
