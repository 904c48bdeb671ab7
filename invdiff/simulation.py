"""A scan that never was: measure a volume with known physics and noise."""

from __future__ import annotations

from invdiff.acquisitions.base import Acquisition
from invdiff.config import parse_noise
from invdiff.measurements import Measurement, in_plane
from invdiff.noise.gaussian import GaussianNoise
from invdiff.rng import Rng
from invdiff.space import Space
from invdiff.volumes import Volume, header_bytes, to_slices


def simulate(
    volume: Volume, acquisition: Acquisition, *, noise: float | str = 0.01, seed: int = 0, axis: int = 2
) -> Measurement:
    """Measure each slice of each frame.

    Args:
        volume: what is measured.
        acquisition: how.
        noise: standard deviation per real component, as a fraction of the acquisition's reference (the 99.9th
            percentile of the clean image; CT: the mean of the clean |y|); 0.01 and "1%" are the same.
        seed: of masks, phase and noise.
        axis: stored axis that counts the slices; the first of the other two is the phase-encoding axis.

    Raises:
        ConfigError: negative or unreadable noise.
    """
    fraction = parse_noise(noise)
    slices = to_slices(volume.data, axis)
    space, spacing = Space(tuple(slices.shape[1:])), in_plane(volume.spacing, axis)
    maps = acquisition.maps(space, spacing, seed)
    unknown = acquisition.to_unknown(slices, seed)
    clean = acquisition.operator(space, spacing, maps)(unknown)
    sigma = fraction * acquisition.noise_unit(unknown, clean)
    y = GaussianNoise(sigma).sample(clean, Rng([(seed, p) for p in range(len(slices))]))
    shape = (volume.data.shape[0], volume.data.shape[1], volume.data.shape[2], volume.data.shape[3])
    facts = {"seed": seed, "noise": fraction, "noise_reference": acquisition.noise_reference, "simulated": True}
    return Measurement(y, acquisition, maps, sigma, shape, axis, header_bytes(volume), facts)
