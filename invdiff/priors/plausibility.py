"""What can be told without the network: voxel sizes, and values that no magnitude and no body has."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.priors.checkpoints import Card
from invdiff.volumes import Volume

SLACK = 1.1  # voxels a tenth beyond those of the training are no mistake
PLANES = {"sagittal": "LR", "coronal": "AP", "axial": "IS"}  # where the axis that counts the slices points


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes:
        kind: scale, values, orientation, plane, spacing, schedule, channel or denoising.
        text: what was found and what to do.
    """

    kind: str
    text: str


def look(card: Card, volume: Volume, stack: Tensor, *, axis: int, found: set[str]) -> list[Finding]:
    """Findings of header and values.

    Args:
        card: of the prior.
        volume: what it is to be used on.
        stack: slices of it, (P, C, H, W) in stored units.
        axis: stored axis that counts the slices.
        found: kinds of mistakes that are known already and need not be told again.
    """
    texts = {"spacing": spacing(card, volume, axis)}
    if "plane" not in found:
        texts["plane"] = plane(card, volume, axis)
    if "values" not in found and card.units["window"] is None:
        texts["values"] = magnitude(card, stack)
    return [Finding(kind, text) for kind, text in texts.items() if text]


def spacing(card: Card, volume: Volume, axis: int) -> str:
    """Voxels in the plane that are finer or coarser than any of the training."""
    if not card.spacing:
        return ""
    sides = [mm for a, mm in enumerate(volume.spacing) if a != axis]
    low, high = min(card.spacing), max(card.spacing)
    if min(sides) * SLACK >= low and max(sides) <= SLACK * high:
        return ""
    seen = " x ".join(f"{mm:.3g}" for mm in sides)
    return (
        f"the voxels are {seen} mm in the plane, the prior was trained on {low:g} to {high:g} mm: "
        "resample the volume, or train a prior on such voxels"
    )


def plane(card: Card, volume: Volume, axis: int) -> str:
    """Slices of another anatomical plane, or along another stored axis, than the card names."""
    if card.planes in PLANES:
        name = next(p for p, ends in PLANES.items() if volume.orientation[axis] in ends)
        right = next(a for a in range(3) if volume.orientation[a] in PLANES[card.planes])
        wrong, what = name != card.planes, f"{name} (axis {axis})"
    elif card.planes in ("0", "1", "2"):
        right = int(card.planes)
        wrong, what = axis != right, f"counted along axis {axis}"
    else:
        return ""
    told = card.planes if card.planes in PLANES else f"axis {card.planes}"
    return f"the slices are {what}, the prior was trained on {told}: use --axis {right}" if wrong else ""


def magnitude(card: Card, stack: Tensor) -> str:
    """Magnitudes that are negative; two channels hold real and imaginary part unless the second is empty."""
    if card.channels > 1 and bool(stack[:, 1].any()):
        return ""
    first = stack[:, 0]
    negative = float((first < -0.1 * first.abs().max()).float().mean())
    if negative < 0.005:
        return ""
    wish = "give both parts as two frames with --complex" if card.channels > 1 else "take the magnitude"
    return (
        f"{100 * negative:.1f} % of the voxels are clearly negative, which no magnitude is: if this is the real or "
        f"imaginary part of a complex image, or a phase, a channel is missing: {wish}"
    )
