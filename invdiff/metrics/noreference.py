"""What a run said of how well its image fits the measurement: a figure that needs no reference."""

from __future__ import annotations

import json
from pathlib import Path

from invdiff.errors import FileError
from invdiff.files import sha256


def data_fit(image: Path) -> dict[str, float | None]:
    """How `image` fits its measurement, by the sidecar that the run left beside it.

    Returns:
        `data_residual`, ||y - A x|| / ||y||, and `chi2`, which is 1 for an exact posterior sample; None where the run
        could not tell. Both are of all frames together.

    Raises:
        FileError: no sidecar, one without these figures, or one that was written for another image.
    """
    path = image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    try:
        facts = json.loads(path.read_text())
        fit, written = facts["data_fit"]["mean"], facts.get("output_sha256", {})
        found = {"data_residual": fit["relative_residual"], "chi2": fit["chi2"]}
    except FileNotFoundError:
        raise FileError(f"no {path.name} beside {image.name}: how it fits its measurement is not known") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise FileError(f"{path.name} is no sidecar of `invdiff reconstruct`: it has no data_fit") from None
    if written and sha256(image) not in written.values():
        raise FileError(f"{path.name} was written for another {image.name} (checksum differs)")
    return found
