"""How images are compared. The same images have other figures by another protocol: nothing averages or tests both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from invdiff.errors import ConfigError

WINDOWS = {"gaussian": 11, "uniform": 7}  # voxels a side, as scikit-image has them
CHOICES = {
    "ssim": ("2d", "3d"),
    "window": tuple(WINDOWS),
    "data_range": ("max-min", "max"),
    "range_of": ("volume", "slice"),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that a figure depends on besides the images; the defaults are the protocol `invdiff`.

    Args:
        name: what rows call it.
        ssim: mean over the slices across the third axis (`2d`), or of the volume at once (`3d`).
        window: SSIM's (Wang et al. 2004): `gaussian` of sigma 1.5 voxels, 11 a side, or `uniform`, 7 a side.
        sample_covariance: SSIM's variances divided by n - 1 rather than n.
        data_range: peak of PSNR and scale of SSIM: `max-min` of the reference, or its `max`.
        range_of: whether that is taken of the whole volume or of each `slice`; then PSNR is the mean over slices.
        mask: whether only voxels of a mask count. The data range never depends on it.
        version: of the definitions, HFEN's filter among them; another one where a figure would come out differently.

    Raises:
        ConfigError: a setting that is not one of its choices, or settings that contradict each other.
    """

    name: str = "invdiff"
    ssim: Literal["2d", "3d"] = "2d"
    window: Literal["gaussian", "uniform"] = "gaussian"
    sample_covariance: bool = False
    data_range: Literal["max-min", "max"] = "max-min"
    range_of: Literal["volume", "slice"] = "volume"
    mask: bool = False
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for setting, choices in CHOICES.items():
            if (found := getattr(self, setting)) not in choices:
                raise ConfigError(f"protocol {self.name}: {setting} is one of {', '.join(choices)}, got {found}")
        if self.range_of == "slice" and self.ssim == "3d":
            raise ConfigError(f"protocol {self.name}: a 3-D SSIM has no range of each slice; take ssim 2d")

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that differ wherever a setting does."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def side(self) -> int:
        """Voxels along a side of SSIM's window."""
        return WINDOWS[self.window]

    def facts(self) -> dict[str, Any]:
        """The settings and their hash, for reports."""
        return asdict(self) | {"hash": self.hash}


INVDIFF = Protocol()
PRESETS = {
    "invdiff": INVDIFF,
    # As fastmri/evaluate.py has it: scikit-image's SSIM slice by slice, the greatest value of the volume as peak.
    "fastmri": Protocol(name="fastmri", window="uniform", sample_covariance=True, data_range="max"),
    # What scikit-image does unless told otherwise, given max - min of the reference as data range.
    "skimage": Protocol(name="skimage", ssim="3d", window="uniform", sample_covariance=True),
}


def preset(name: str, ssim: Literal["2d", "3d"] | None = None) -> Protocol:
    """A protocol by name, with SSIM of slices or volumes where that is given.

    Raises:
        ConfigError: no protocol has this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"no protocol {name!r}; choose one of {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name], ssim=ssim) if ssim else PRESETS[name]
