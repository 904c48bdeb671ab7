"""The low-dose CT collection of The Cancer Imaging Archive, from the archive's public interface (NBIA)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from invdiff.errors import DatasetError
from invdiff_datasets.base import Card, File
from invdiff_datasets.web import Patience, read_json

API = "https://services.cancerimagingarchive.net/nbia-api/services/v1"
COLLECTION = "LDCT-and-Projection-data"
KINDS = {
    "full dose images": "full_images",
    "low dose images": "low_images",
    "full dose projections": "full_projections",
    "low dose projections": "low_projections",
}


def resolve(card: Card, patience: Patience) -> Card:
    """The card with a file for each public series of a chest or an abdomen; raises DatasetError."""
    url = f"{API}/getSeries?{urlencode({'Collection': COLLECTION, 'format': 'json'})}"
    rows = read_json(url, patience)
    seen: Counter[str] = Counter()
    found = [f for row in rows if isinstance(row, dict) and (f := _file(row, seen))] if isinstance(rows, list) else []
    if not found:
        raise DatasetError(f"The Cancer Imaging Archive lists no series of {COLLECTION}; see {card.source}")
    return replace(card, files=tuple(sorted(found, key=lambda f: f.path)), loader=None)


def _file(row: Mapping[str, Any], seen: Counter[str]) -> File | None:
    """A series is one zip, packed when it is asked for: what is inside has checksums, the zip has none."""
    patient, uid = str(row.get("PatientID")), str(row.get("SeriesInstanceUID"))
    kind = KINDS.get(str(row.get("SeriesDescription")).strip().lower())
    if not (kind and re.fullmatch("[CL][0-9]{3}", patient) and re.fullmatch("[0-9.]+", uid)):
        return None
    licence = str(row.get("LicenseURI") or "")
    if licence and "/by/4.0" not in licence:
        raise DatasetError(f"The Cancer Imaging Archive gives {patient} under {licence}, the card says CC-BY-4.0")
    name = f"{patient}/{kind}"
    seen[name] += 1
    name += f"_{seen[name]}" if seen[name] > 1 else ""
    size = int(row.get("FileSize") or 0) or None
    return File(
        f"{name}.zip",
        url=f"{API}/getImageWithMD5Hash?{urlencode({'SeriesInstanceUID': uid})}",
        bytes=size,
        subset=kind,
        into=name,
        unpacked=size and size + size // 10 + 2**20,
        listed="md5hashes.csv",
    )
