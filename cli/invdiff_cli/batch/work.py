"""What a worker does with one scan: simulate, reconstruct, evaluate, and write all of it or nothing."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from invdiff.errors import InvdiffError
from invdiff.files import all_or_none, locked, sha256
from invdiff_cli import intervals, judged, runs
from invdiff_cli.batch import bids
from invdiff_cli.batch.jobs import Job, done
from invdiff_cli.settled import measured_of, method_of

if TYPE_CHECKING:
    from invdiff.measurements import Measurement
    from invdiff.reconstruction import Reconstruction
    from invdiff.volumes import Volume

Tell = Callable[[int, int], None]
WHAT = {
    "mean": "Mean of posterior samples, or the one sample or point estimate",
    "std": "Standard deviation of posterior samples, voxel by voxel",
    "direct": "Customary direct reconstruction, to compare with: zero-filling, filtered back-projection or the like",
}


def work(job: Job, tell: Tell | None = None) -> dict[str, Any]:
    """The row of a scan: its files and metrics, or `kind` and `reason` of what went wrong with it.

    One broken scan costs its own row: whatever it raises is told, and the worker goes on to the next.
    """
    import torch

    torch.set_num_threads(job.threads)
    try:
        # A worker that outlives its client may still be at it: whoever comes second finds it done.
        with locked(job.work / "lock", wait=True):
            return done(job) or _made(job, tell or (lambda step, of: None))
    except Exception as e:
        shutil.rmtree(job.work, ignore_errors=True)
        reason = " ".join(str(e).split()) or "no reason is told"
        if not isinstance(e, InvdiffError | MemoryError):  # a bug, whose place must be found
            reason += f" ({traceback.extract_tb(e.__traceback__)[-1].name})"
        return {"name": job.scan.name, "input": str(job.scan.source), "kind": type(e).__name__, "reason": reason,
                "key": job.key}  # fmt: skip


def _made(job: Job, tell: Tell) -> dict[str, Any]:
    began = time.perf_counter()
    job.output.parent.mkdir(parents=True, exist_ok=True)
    found = measured(job)
    if job.stages == ("simulate",):
        return _write(job, began, (), {}, measurement=found)
    if "reconstruct" not in job.stages:
        return _write(job, began, (), {"metrics": _metrics(job, None)})
    assert found is not None
    result, direct = _reconstructed(job, found, tell)
    asked = intervals.found(result, partial(job.named, ending=".nii.gz"), job.run, intervals.calibration(job.run))
    facts = result.facts | {"metrics": _metrics(job, result.mean), "intervals": asked.facts}
    facts["warnings"] = facts["warnings"] + asked.warnings
    images = [("mean", result.mean), ("direct", direct)] + ([("std", result.std)] if result.std is not None else [])
    return _write(job, began, chain(images, asked.maps()), facts)


def measured(job: Job) -> Measurement | None:
    """The measurement of the scan; None where a finished image is evaluated."""
    if "simulate" not in job.stages:
        return measured_of(job.scan.source, job.run) if "reconstruct" in job.stages else None
    from invdiff import config, registry, volumes
    from invdiff.simulation import simulate

    how = job.simulation
    settings = dict(how["acquisition"])
    acquisition: Any = config.build(registry.find("acquisitions", settings.pop("kind")), settings)
    truth = volumes.load(job.scan.source)
    found = simulate(
        truth, acquisition, noise=how["noise"], model=how["noise_model"], seed=how["seed"], axis=how["axis"]
    )
    found.facts.update(source=job.scan.source.name, source_sha256=sha256(job.scan.source))
    return found


def arguments(job: Job, measurement: Measurement) -> tuple[Any, dict[str, Any]]:
    """The solver, and the other arguments of `invdiff.reconstruct`.

    Slices per network call go by the scan alone, not by what memory is free now: no result depends on its neighbours.
    """
    from invdiff.preparation import default_width

    method, where = method_of(dict(job.run))
    if not where["width"]:
        where["width"] = default_width(measurement.as_volumes() if "planes" in where else measurement)
    return method, where


def _reconstructed(job: Job, measurement: Measurement, tell: Tell) -> tuple[Reconstruction, Volume]:
    """The result, and what a reader compares it with: the customary direct reconstruction."""
    from invdiff.reconstruction import reconstruct
    from invdiff.solvers import Direct

    method, where = arguments(job, measurement)
    problems = len((measurement.as_volumes() if "planes" in where else measurement).y)
    total = -(-problems * len(where["seeds"]) // where["width"]) * method.length
    steps = count(1)
    result = reconstruct(
        measurement, method, checkpoint=job.work / "state", callback=lambda _: tell(next(steps), total), **where
    )
    return result, reconstruct(measurement, Direct()).mean


def _metrics(job: Job, image: Volume | None) -> list[dict[str, Any]]:
    """One row per frame, where there is something to compare with."""
    if "evaluate" not in job.stages or job.reference is None:
        return []
    from invdiff import volumes
    from invdiff.metrics import preset

    found, truth = image or volumes.load(job.scan.source), volumes.load(job.reference)
    mask = judged.one_volume(job.scan.mask) if job.scan.mask else None
    compared = judged.likenesses(found, truth, (job.scan.source, job.reference), mask, preset(job.protocol))
    return [{"frame": n, **likeness.whole()} for n, likeness in enumerate(compared)]


def _write(
    job: Job,
    began: float,
    images: Iterable[tuple[str, Volume]],
    facts: dict[str, Any],
    *,
    measurement: Measurement | None = None,
) -> dict[str, Any]:
    """All files of the scan at once, from a folder of their own; the sidecar tells their checksums."""
    from invdiff import measurements, volumes

    with all_or_none(job.output.parent, inside=job.work) as draft:
        names = []
        for name, volume in images:
            names.append(name)
            volumes.save(draft / job.named(name, ".nii.gz").name, volume)
        if measurement is not None:
            measurements.save(draft / job.output.name, measurement)
        for name in names if job.raw else ():
            if job.named(name, ".json") != job.sidecar:
                runs.write_json(draft / job.named(name, ".json").name, _told(job, name))
        sums = {path.name: sha256(path) for path in sorted(draft.iterdir())}
        row = _row(job, sums, facts, time.perf_counter() - began)
        runs.write_json(draft / job.sidecar.name, _sidecar(job) | facts | {"output_sha256": sums, "batch": row})
    shutil.rmtree(job.work, ignore_errors=True)
    return row


def _row(job: Job, files: dict[str, str], facts: dict[str, Any], seconds: float) -> dict[str, Any]:
    """For results.tsv and run_report.json."""
    here = job.output.parent.relative_to(job.folder)
    known = {kind: (here / name).as_posix() for kind in WHAT if (name := job.named(kind, ".nii.gz").name) in files}
    if job.output.suffix == ".h5":
        known["measurement"] = (here / job.output.name).as_posix()
    known["sidecar"] = (here / job.sidecar.name).as_posix()
    if job.reference:
        known["reference"] = str(job.reference.resolve())
    fit = facts.get("data_fit", {}).get("mean", {})
    return {
        "name": job.scan.name,
        "subject": job.scan.subject,
        "key": job.key,
        "input": str(job.scan.source),
        "files": known,
        "method": job.run["solver"] if "reconstruct" in job.stages else None,
        "metrics": facts.get("metrics", []),
        "data_residual": fit.get("relative_residual"),
        "chi2": fit.get("chi2"),
        "warnings": facts.get("warnings", []),
        "seconds": seconds,
    }


def _sidecar(job: Job) -> dict[str, Any]:
    """Of the main file."""
    told = _told(job, "mean") if job.raw and "reconstruct" in job.stages else {}
    return told | {"input": {"file": job.scan.source.name, "sha256": sha256(job.scan.source)}}


def _told(job: Job, name: str) -> dict[str, Any]:
    """What BIDS asks for of one image."""
    assert job.raw is not None
    return bids.sidecar(job.scan, job.raw, WHAT.get(name) or intervals.what(name))
