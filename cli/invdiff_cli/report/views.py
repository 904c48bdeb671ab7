"""The volumes of one scan, as they are shown: one frame, one window for all images, axes nearest to RAS+."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass

from invdiff import volumes
from invdiff.errors import ConfigError

if TYPE_CHECKING:
    from invdiff.volumes import Volume
    from invdiff_cli.report.cases import Case

_nib: Any = nibabel
Array = NDArray[np.float32]
TITLES = {
    "reference": "Reference",
    "direct": "Input",
    "tv": "Total variation",
    "mean": "Reconstruction",
    "error": "|Error|",
    "std": "Uncertainty",
}
SPREADS = ("error", "std")  # what share a colour scale of their own
PLANES = ("sagittal", "coronal", "axial")  # by the axis across them, RAS+


@dataclass(frozen=True, eq=False)
class Image:
    """A titled volume and the window that it is shown in: its greys, or colours where it is an error or a spread.

    Args:
        stored: (X, Y, Z), axes as in the file.
        shown: the same voxels, axes nearest to right, anterior, superior; a view.
    """

    role: str
    stored: Array
    shown: Array
    low: float
    high: float

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return TITLES[self.role]

    @property
    def colours(self) -> str:
        """Name of its colour map."""
        return "magma" if self.role in SPREADS else "gray"


@dataclass(frozen=True, eq=False)
class Scan:
    """The images of one scan by role, in the order shown, and their place.

    Args:
        images: `mean` always.
        affine: of `Image.shown`, voxel index -> mm, RAS+.
        place: the grid as the file has it, in words.
        frame: which one of a series is shown.
        notes: what a reader must know of the images: sentences.
    """

    images: dict[str, Image]
    affine: NDArray[np.float64]
    place: str
    frame: int
    notes: list[str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels to the right, to the front, upwards."""
        x, y, z = self.images["mean"].shown.shape
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between them."""
        return volumes.spacing(self.affine)

    def centre(self) -> tuple[int, int, int]:
        """The voxel in the middle of what is bright: planes through it meet the subject."""
        image = self.images["mean"]
        bright = np.clip(image.shown - image.low, 0, image.high - image.low)
        found = center_of_mass(bright) if bright.any() else [(n - 1) / 2 for n in bright.shape]
        x, y, z = (round(float(i)) for i in found)
        return x, y, z


def load(case: Case, frame: int = 0) -> Scan:
    """Read the volumes of a scan, and take the error where there is a reference on the same grid.

    Raises:
        FileError: a volume that cannot be read.
        ConfigError: a frame that there is not.
    """
    mean = volumes.load(case.volumes["mean"])
    frames = len(mean.data)
    if not 0 <= frame < frames:
        raise ConfigError(f"--frame {frame}: {case.volumes['mean']} has {frames}, counted from 0")
    arrays: dict[str, Array] = {}
    notes = [f"Of {frames} frames, number {frame} is shown, counted from 0."] if frames > 1 else []
    for role, path in case.volumes.items():
        volume = mean if role == "mean" else volumes.load(path)
        if note := _unlike(role, volume, mean):
            notes.append(note)
        if volume.data.shape[1:] == mean.data.shape[1:]:
            arrays[role] = volume.data.numpy()[frame if len(volume.data) == frames else 0]
    if "reference" in arrays:
        arrays["error"] = np.abs(arrays["mean"] - arrays["reference"])
    ornt = _nib.io_orientation(mean.affine)
    affine = mean.affine @ _nib.orientations.inv_ornt_aff(ornt, mean.data.shape[1:])
    windows = _windows(arrays)
    images = {
        role: Image(role, arrays[role], _nib.apply_orientation(arrays[role], ornt), *windows[role])
        for role in TITLES
        if role in arrays
    }
    return Scan(images, affine, _place(mean), frame, notes)


def _place(volume: Volume) -> str:
    grid, sizes = volume.data.shape[1:], volume.spacing
    voxels = f"{' x '.join(map(str, grid))} voxels of {' x '.join(f'{s:.3g}' for s in sizes)} mm"
    return f"{voxels}, stored {volume.orientation}"


def _unlike(role: str, volume: Volume, mean: Volume) -> str:
    """What keeps a volume from being compared voxel by voxel, in a sentence."""
    title, grid, own = TITLES[role], tuple(volume.data.shape[1:]), tuple(mean.data.shape[1:])
    if grid != own:
        return f"{title}: its grid is {grid}, that of the reconstruction {own}; it is not shown."
    if not np.allclose(volume.affine, mean.affine, atol=1e-2):
        return f"{title}: its affine is another; it is shown voxel by voxel, in the place of the reconstruction."
    return ""


def _windows(arrays: dict[str, Array]) -> dict[str, tuple[float, float]]:
    """One window for all images, that of the reference if there is one; another for error and spread."""
    guide = arrays.get("reference", arrays["mean"])
    spread = next((arrays[role] for role in SPREADS if role in arrays), guide)
    grey = _window(guide, 0.005)
    colour = (0.0, _window(spread, 0.0)[1] or 1.0)
    return {role: colour if role in SPREADS else grey for role in arrays}


def _window(x: Array, low: float) -> tuple[float, float]:
    bottom, top = (float(q) for q in np.quantile(x, (low, 0.995)))
    return (bottom, top) if top > bottom else (bottom, bottom + 1)
