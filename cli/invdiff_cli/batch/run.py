"""A batch from start to end: what is there, what is to do, doing it, and what is told of it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from invdiff.errors import ConfigError, FileError
from invdiff.files import locked, write_text
from invdiff_cli import gates, runs
from invdiff_cli.batch import citations, tables
from invdiff_cli.batch.bars import bars
from invdiff_cli.batch.engine import LOST, ClusterError
from invdiff_cli.batch.inputs import Scan
from invdiff_cli.batch.jobs import Job, done, in_the_way
from invdiff_cli.batch.settings import jobs, slurm_of

SOME_FAILED = 3
Rows = list[dict[str, Any]]


def run(scans: list[Scan], output: Path, given: dict[str, Any], raw: Path | None = None) -> None:
    """Do what is not done yet; exits with 3 where a scan failed, with 130 on Ctrl-C.

    Gates are for runs in which none failed.

    Args:
        scans: of `inputs.found`.
        output: the folder.
        given: flags by name.
        raw: root of a BIDS tree.

    Raises:
        ConfigError: settings; results of other settings in the folder; another run that writes there.
        FileError: the folder cannot be written.
        ClusterError: the scheduler went away.
        GateError: a row is worse than a gate.
    """
    limits = gates.gates(given["fail_under"] or [])
    if given["junit"] and not limits:
        raise ConfigError("--junit has a test case per row and gate; give --fail-under, e.g. psnr=30")
    every, slurm = jobs(scans, output, given, raw), slurm_of(given)
    if given["dry_run"]:
        from invdiff_cli.batch.dry import told

        print(told(every, given))
        return
    with _alone(output):
        ready, failed, todo = sorted_out(every, given)
        _announce(ready, failed, todo)
        for row in ready:  # of a worker that was killed with its last breath
            shutil.rmtree(output / ".work" / row["key"], ignore_errors=True)
        began, rows = time.perf_counter(), [*ready, *failed]
        finish = partial(_finish, output, every, rows, given, began, raw)
        try:
            if todo:
                _compute(todo, given, slurm, rows)
        except KeyboardInterrupt:
            finish()
            _warn(f"interrupted with {len(every) - len(rows)} of {len(every)} scans to go; the same command goes on")
            raise SystemExit(130) from None
        except ClusterError:
            finish()
            raise
        finish()
    if broken := [row for row in rows if "kind" in row]:
        _warn(f"{len(broken)} of {len(every)} scans failed; {output / 'failures.tsv'} says why")
        raise SystemExit(SOME_FAILED)
    found = gates.cases(tables.frames(sorted(rows, key=lambda row: row["name"])), limits)
    if given["junit"]:
        gates.write_junit(given["junit"], found)
    gates.check(found)


def sorted_out(every: list[Job], given: dict[str, Any]) -> tuple[Rows, Rows, list[Job]]:
    """Rows that are there, failures that are not tried again, and jobs to do.

    Raises:
        ConfigError: there are results of other settings, and no --force.
    """
    before = tables.failed_before(every[0].folder)
    ready: Rows = []
    failed: Rows = []
    todo: list[Job] = []
    others: list[Path] = []
    for job in every:
        if row := done(job):
            ready.append(row)
        elif (old := before.get(job.key)) and old["kind"] != LOST and not given["retry_failed"]:
            failed.append(old)
        else:
            todo.append(job)
            others += [path] if (path := in_the_way(job)) else []
    if others and not given["force"]:
        raise ConfigError(
            f"{others[0]} and {len(others) - 1} more are of other settings, scans or versions, or were changed since; "
            "choose another folder, or pass --force to replace them"
        )
    return ready, failed, todo


def _compute(todo: list[Job], given: dict[str, Any], slurm: dict[str, str] | None, rows: Rows) -> None:
    """Append a row for each job."""
    from invdiff_cli.batch import cluster
    from invdiff_cli.batch.engine import computed

    workers = cluster.count(given["workers"], given["threads"], len(todo), todo[0].run["device"])
    how = {"workers": workers, "threads": given["threads"], "scheduler": given["scheduler"]}
    with cluster.connected(**how, slurm=slurm) as client, bars(len(todo)) as shown:
        _warn(f"dashboard: {client.dashboard_link}")
        for row in computed(client, todo, shown.heard):
            rows.append(row)
            shown.finished(row)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """The folder for oneself; where nothing is half done, nothing but results is left in it."""
    work = output / ".work"
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise FileError(f"cannot make the folder {output}: {e.strerror}") from e
    with locked(work / "lock", wait=False) as alone:
        if not alone:
            raise ConfigError(f"another run writes into {output}; wait for it, or choose another folder")
        try:
            yield
        finally:
            if not any(p.name != "lock" for p in work.iterdir()):
                shutil.rmtree(work)


def _announce(ready: Rows, failed: Rows, todo: list[Job]) -> None:
    if ready:
        _warn(f"{len(ready)} of {len(ready) + len(failed) + len(todo)} scans are done already")
    if failed:
        _warn(f"{len(failed)} failed before and are left; --retry-failed tries them again")


def _finish(output: Path, every: list[Job], rows: Rows, given: dict[str, Any], began: float, raw: Path | None) -> None:
    """All that is told of the run, in files."""
    from invdiff.metrics import preset
    from invdiff.reconstruction import versions

    job = every[0]
    used = citations.of(job.run["solver"] if "reconstruct" in job.stages else None)
    settings = content(job)
    facts = {
        "command_line": " ".join(sys.argv[1:]),
        "settings": settings,
        "versions": versions(),
        "machine": {"device": job.run["device"], "threads": given["threads"]},
        "seconds": time.perf_counter() - began,
        "protocol": preset(given["protocol"] or "invdiff").facts(),
        "citations": used,
    }
    tables.write(output, rows, facts)
    citations.write(output, used)
    runs.write_yaml(output / "batch.run.yaml", settings)
    if raw is not None:
        from invdiff_cli.batch import bids

        runs.write_json(output / "dataset_description.json", bids.description(raw))
        write_text(output / ".bidsignore", "\n".join(bids.IGNORED) + "\n")


def content(job: Job) -> dict[str, Any]:
    """The run file of the batch."""
    run = {k: v for k, v in sorted(job.run.items()) if v is not None}
    return {"stages": list(job.stages)} | ({"simulation": job.simulation} if job.simulation else {}) | run


def _warn(text: str) -> None:
    print(f"invdiff: {text}", file=sys.stderr, flush=True)
