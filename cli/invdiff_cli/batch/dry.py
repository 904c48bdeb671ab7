"""What a batch would do: its scans, and memory and time by a plan of the largest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from invdiff.errors import InvdiffError
from invdiff_cli.batch.jobs import Job
from invdiff_cli.batch.run import sorted_out
from invdiff_cli.batch.work import arguments, measured


def told(every: list[Job], given: dict[str, Any]) -> str:
    """The text: one line per scan, then what all of them take."""
    ready, failed, todo = sorted_out(every, given | {"force": True})
    state = {r["name"]: "done" for r in ready} | {r["name"]: "failed before" for r in failed}
    lines = [f"{state.get(j.scan.name, 'to do'):14}{j.scan.source} -> {j.output.relative_to(j.folder)}" for j in every]
    return "\n".join([*lines, f"{len(todo)} of {len(every)} scans: {', '.join(every[0].stages)}", *_taken(todo, given)])


def _taken(todo: list[Job], given: dict[str, Any]) -> list[str]:
    """Memory and time, where there is something to reconstruct."""
    sizes = {job: voxels(job.scan.source) for job in todo if "reconstruct" in job.stages}
    if not any(sizes.values()):
        return []
    from invdiff.preparation import planned
    from invdiff_cli.batch.cluster import count

    largest = max(sizes, key=lambda job: sizes[job])
    try:
        found = measured(largest)
        assert found is not None
        method, where = arguments(largest, found)
        plan = planned(found, method, kept=False, **where)
    except InvdiffError as e:
        return [f"{largest.scan.source} cannot be planned: {type(e).__name__}: {e}"]
    workers = count(given["workers"], given["threads"], len(todo), largest.run["device"])
    peak = plan.facts()["predicted_mib"]
    seconds = (plan.seconds or math.nan) * sum(sizes.values()) / sizes[largest] / workers
    return [
        f"workers: {workers} of {given['threads']} thread{'s' * (given['threads'] > 1)}",
        f"memory: {peak} MiB for the largest ({largest.scan.name}), {peak * workers} MiB for all workers",
        f"time: about {seconds:.0f} s",
    ]


def voxels(path: Path) -> int:
    """Of an image by its header, of a measurement by its size; 0 where neither can be read."""
    import nibabel as nib

    try:
        if path.suffix == ".h5":
            return path.stat().st_size // 4
        return math.prod(nib.load(path).shape)  # type: ignore[attr-defined]
    except (OSError, nib.filebasedimages.ImageFileError, EOFError):
        return 0
