"""A BIDS tree in, BIDS derivatives out: entities, names, descriptions (BIDS 1.10)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from invdiff import __version__
from invdiff.errors import ConfigError, FileError
from invdiff_cli.batch.inputs import Scan

ORDER = (
    "sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run", "mod",
    "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk", "seg", "res", "den",
    "label", "desc",
)  # fmt: skip
IMAGES = {
    "anat": ("T1w", "T2w", "T2starw", "FLAIR", "PDw", "PDT2", "inplaneT1", "inplaneT2", "angio"),
    "func": ("bold", "sbref"),
    "fmap": ("epi",),
    "pet": ("pet",),
}
NAME = re.compile(r"(?P<entities>(?:[a-z]+-[A-Za-z0-9]+_)+)(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?")
# What is no BIDS, for .bidsignore.
IGNORED = ("logs/", "*.html", "results.tsv", "failures.tsv", "run_report.json", "*.run.yaml", "CITATION.bib")
LICENCE = "that of the raw data"


def scans(root: Path, labels: Collection[str] = (), sessions: Collection[str] = ()) -> list[Scan]:
    """Images of the participants, all by default, in derivatives' names without description and suffix.

    Args:
        root: with dataset_description.json.
        labels: of participants, with or without `sub-`.
        sessions: of theirs, with or without `ses-`.

    Raises:
        FileError: no such tree, or no image in it.
        ConfigError: a participant that is not there.
    """
    if not (root / "dataset_description.json").is_file():
        raise FileError(f"{root} is no BIDS dataset: it has no dataset_description.json")
    there = sorted(p.name.removeprefix("sub-") for p in root.glob("sub-*") if p.is_dir())
    wanted = {label.removeprefix("sub-") for label in labels}
    if missing := sorted(wanted - set(there)):
        raise ConfigError(f"{root} has no participant {missing[0]}; it has {', '.join(there) or 'none'}")
    kept = [label for label in there if not wanted or label in wanted]
    out = [scan for label in kept for scan in _of(root, label, {s.removeprefix("ses-") for s in sessions})]
    if not out:
        kinds = ", ".join(suffix for suffixes in IMAGES.values() for suffix in suffixes)
        raise FileError(f"{root} has no image of these participants and sessions ({kinds})")
    return out


def _of(root: Path, label: str, sessions: Collection[str]) -> list[Scan]:
    found = []
    for path in sorted((root / f"sub-{label}").rglob("*.nii*")):
        match, folder = NAME.fullmatch(path.name), path.parent.name
        if match and match["suffix"] in IMAGES.get(folder, ()):
            entities = dict(part.split("-", 1) for part in match["entities"].rstrip("_").split("_"))
            if not sessions or entities.get("ses") in sessions:
                name = (path.parent.relative_to(root) / joined(entities)).as_posix()
                found.append(Scan(name, path.resolve(), subject=label, suffix=match["suffix"]))
    return found


def joined(entities: dict[str, str]) -> str:
    """`{"sub": "01", "run": "1"}` -> `sub-01_run-1`, in the order of the standard."""
    known = [k for k in ORDER if k in entities]
    return "_".join(f"{k}-{entities[k]}" for k in [*known, *(k for k in entities if k not in ORDER)])


def label(description: str) -> str:
    """Letters and digits, as the standard wants: `above-1000` -> `above1000`, `above--0.5` -> `aboveMinus0p5`."""
    what, _, value = description.partition("-")
    return what + value.replace("-", "Minus").replace(".", "p").replace("+", "")


def reconstructed(scan: Scan, method: str) -> Scan:
    """The same with the entity `rec` that tells the method, at its place among the others."""
    folder, _, last = scan.name.rpartition("/")
    entities = dict(part.split("-", 1) for part in last.split("_")) | {"rec": method}
    return replace(scan, name=f"{folder}/{joined(entities)}")


def description(raw: Path | None) -> dict[str, Any]:
    """dataset_description.json of the derivatives."""
    content: dict[str, Any] = {
        "Name": "invdiff reconstructions",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "invdiff", "Version": __version__, "Description": "Research use only."}],
        "License": LICENCE,
    }
    if raw is not None:
        content |= {
            "SourceDatasets": [{"URL": raw.resolve().as_uri()}],
            "DatasetLinks": {"raw": raw.resolve().as_uri()},
        }
    return content


def sidecar(scan: Scan, root: Path, what: str) -> dict[str, Any]:
    """What a derivative's JSON must say besides our own facts: what the source's own says, and where it is from."""
    own = scan.source.with_name(scan.source.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    try:
        raw = json.loads(own.read_text())
    except (OSError, ValueError):  # none, or inherited
        raw = {}
    source = scan.source.relative_to(root.resolve()).as_posix()
    told = {"Description": what, "Sources": [f"bids:raw:{source}"], "SkullStripped": False}
    return (raw if isinstance(raw, dict) else {}) | told
