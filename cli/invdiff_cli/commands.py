"""Every command: where it lives, what `invdiff --help` says of it, an example. It is imported when it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import typer


class Entry(NamedTuple):
    """A function, or a Typer app with commands of its own, as `module:name`."""

    target: str
    summary: str
    example: str | None = None


TABLE = {
    "demo": Entry("demo:demo", "A real scan from start to end, without a download.", "demo -o demo"),
    "simulate": Entry("simulate:app", "Measure a volume with known physics and noise."),
    "import": Entry("import_:app", "Raw k-space, projections and images as measurements."),
    "reconstruct": Entry(
        "reconstruct:reconstruct", "A measurement to volumes: mean and uncertainty.",
        "reconstruct y.h5 -o recon.nii.gz --samples 8",
    ),
    "plan": Entry("plan:plan", "Memory and time of a reconstruction, before.", "plan y.h5 --planes 2,0 --mem-gb 8"),
    "evaluate": Entry(
        "evaluate:evaluate", "PSNR, SSIM and the like, with their protocol.",
        "evaluate recon.nii.gz --reference truth.nii.gz --fail-under psnr=30",
    ),
    "compare": Entry(
        "compare:compare", "Methods on the same scans: intervals, tests.",
        "compare tv.tsv diffpir.tsv --metric psnr --metric hfen",
    ),
    "calibrate": Entry(
        "calibrate:calibrate", "Intervals that cover what they say.",
        "calibrate recon.nii.gz --reference truth.nii.gz -o calibration.json",
    ),
    "denoise": Entry(
        "denoise:denoise", "A diffusion series without its noise.",
        "denoise dwi.nii.gz -o clean.nii.gz --bval dwi.bval --bvec dwi.bvec",
    ),
    "evaluate-dwi": Entry(
        "evaluate_dwi:evaluate_dwi", "What denoising did to FA, MD and directions.",
        "evaluate-dwi clean.nii.gz --raw dwi.nii.gz --reference truth.nii.gz",
    ),
    "batch": Entry(
        "batch.commands:batch", "Many scans, unattended, each exactly once.",
        "batch scans/ -o out --acquisition mri --set acquisition.acceleration=4",
    ),
    "bids": Entry(
        "batch.commands:bids", "A BIDS dataset to BIDS derivatives.",
        "bids ds out participant --participant-label 01 --acquisition mri",
    ),
    "report": Entry("report.command:report", "A run as pages for a browser.", "report demo -o report.html"),
    "tune": Entry("tune:tune", "A solver's settings, without the truth.", "tune y.h5 --solver tv -o tuned.yaml"),
    "data": Entry("data:app", "Samples and public sets, verified."),
    "doctor": Entry("doctor:doctor", "Whether computer and installation are fit.", "doctor"),
    "info": Entry("info:info", "Solvers, priors, acquisitions and settings.", "info diffpir"),
    "train": Entry("train:app", "Priors and bridges from your own volumes."),
    "prior": Entry("prior:app", "List, install, convert and check priors."),
    "sample": Entry("sample:sample", "Draw images from a prior alone.", "sample brain-mr -o samples.png"),
    "verify": Entry("verify:verify", "Solvers held to posteriors that are known.", "verify --solver mmps"),
}  # fmt: skip


class Commands(Mapping[str, Any]):
    """The table as commands of Typer, each made when it is asked for."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - Typer's vendored click has no public types
        """Import, and make the command; raises KeyError for an unknown name."""
        return _made(name)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(TABLE)

    def __len__(self) -> int:
        """How many."""
        return len(TABLE)


@cache
def _made(name: str) -> Any:  # noqa: ANN401 - as above
    entry = TABLE[name]
    module, _, attribute = entry.target.partition(":")
    target = getattr(import_module(f"invdiff_cli.{module}"), attribute)
    if not isinstance(target, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(name, epilog=f"Example: invdiff {entry.example}")(target)
        target = alone
    command = typer.main.get_command(target)
    command.name = name
    return command
