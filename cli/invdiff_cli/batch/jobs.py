"""One scan and all that decides about its result: its key, its files, and whether they are there already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invdiff import __version__
from invdiff.files import sha256
from invdiff_cli.batch import bids
from invdiff_cli.batch.inputs import Scan

STAGES = ("simulate", "reconstruct", "evaluate")


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker is handed.

    Attributes:
        scan: the input and the name of its outputs.
        folder: the output folder.
        stages: what is done, of `STAGES`.
        run: settings of the reconstruction, as `settled` has them.
        simulation: acquisition, noise, noise_model, seed and axis, where it is simulated.
        threads: of the worker.
        protocol: of the metrics.
        key: checksum of everything that decides about the result.
        raw: root of a BIDS tree.
    """

    scan: Scan
    folder: Path
    stages: tuple[str, ...]
    run: dict[str, Any]
    simulation: dict[str, Any]
    threads: int
    protocol: str
    key: str = ""
    raw: Path | None = None

    @property
    def output(self) -> Path:
        """The main file: the mean, else the metrics, else the measurement."""
        if "reconstruct" in self.stages:
            return self.named("mean", ".nii.gz")
        return self.named("metrics", ".json") if "evaluate" in self.stages else self.folder / f"{self.scan.name}_y.h5"

    @property
    def sidecar(self) -> Path:
        """The facts of the run; written together with all else."""
        name = self.output.name
        for ending in (".nii.gz", ".h5", ".json"):
            name = name.removesuffix(ending)
        return self.output.with_name(f"{name}.json")

    def named(self, description: str, ending: str) -> Path:
        """`DIR/sub-01_rec-dps_desc-std_T1w.nii.gz`."""
        suffix = f"_{self.scan.suffix}" if self.scan.suffix else ""
        label = bids.label(description) if self.raw else description
        return self.folder / f"{self.scan.name}_desc-{label}{suffix}{ending}"

    @property
    def reference(self) -> Path | None:
        """What the image should be: of a simulation the scan itself, unless the manifest says otherwise."""
        return self.scan.reference or (self.scan.source if "simulate" in self.stages else None)

    @property
    def work(self) -> Path:
        """Where its state is kept while it runs."""
        return self.folder / ".work" / self.key


def key_of(job: Job, settings: dict[str, Any]) -> str:
    """64 hexadecimal digits of the content that decides: files by their checksums, settings, threads, version.

    Args:
        job: without its key.
        settings: what else decides: checksums of files that settings name; JSON-able.

    Raises:
        FileError: a file is missing.
    """
    scan = job.scan
    files = {"input": scan.source, "reference": scan.reference, "mask": scan.mask}
    content = {
        "files": {what: checksum(path) for what, path in files.items() if path},
        "name": scan.name,
        "stages": job.stages,
        "run": job.run if "reconstruct" in job.stages else None,
        "simulation": job.simulation,
        "threads": job.threads,
        "protocol": job.protocol if "evaluate" in job.stages else None,
        "version": __version__,
        **settings,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def checksum(path: Path) -> str:
    """Of a file, or what is wrong with it: a scan that cannot be read fails by itself, on its worker."""
    try:
        return sha256(path)
    except OSError as e:
        return type(e).__name__


def done(job: Job) -> dict[str, Any] | None:
    """The row of a job whose outputs are all there, whole and its own; else None."""
    row, sums = _found(job)
    return row if row and all(checksum(path) == s for path, s in sums.items()) else None


def in_the_way(job: Job) -> Path | None:
    """A file that the job would replace and that is not its own: of other settings, or changed since; else None."""
    row, sums = _found(job)
    if row:
        return next((path for path, s in sums.items() if path.exists() and checksum(path) != s), None)
    if job.work.exists():  # it was killed while it moved its files
        return None
    return next((path for path in (job.output, job.sidecar) if path.exists()), None)


def _found(job: Job) -> tuple[dict[str, Any] | None, dict[Path, str]]:
    """The row and the checksums that the sidecar tells, if it is of this job."""
    try:
        facts = json.loads(job.sidecar.read_text())
        row, sums = facts["batch"], facts["output_sha256"]
        return (row if row["key"] == job.key else None), {job.output.with_name(n): s for n, s in sums.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}
