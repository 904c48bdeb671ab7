"""A scan that never was: measure a volume with known physics and noise."""

from __future__ import annotations

from typing import cast

from invdiff import registry
from invdiff.acquisitions.base import Acquisition
from invdiff.config import parse_noise
from invdiff.errors import ConfigError
from invdiff.measurements import Measurement, check_count, elements, sides
from invdiff.noise.base import NoiseModel
from invdiff.rng import Rng
from invdiff.space import Space
from invdiff.volumes import Volume, header_bytes


def simulate(
    volume: Volume,
    acquisition: Acquisition,
    *,
    noise: float | str = 0.01,
    model: str = "gaussiannoise",
    seed: int = 0,
    axis: int = 2,
) -> Measurement:
    """Measure each slice of each frame, or each frame as a whole.

    Args:
        volume: what is measured.
        acquisition: how.
        noise: standard deviation per real component, as a fraction of the acquisition's reference (the 99.9th
            percentile of the clean image; CT: the mean of the clean |y|); 0.01 and "1%" are the same.
        model: name of the noise model.
        seed: of masks, phase and noise.
        axis: stored axis that counts the slices; the first of the other two is the phase-encoding axis.

    Raises:
        ConfigError: negative or unreadable noise, or a model that does not fit complex measurements.
    """
    fraction, law = parse_noise(noise), cast(type[NoiseModel], registry.find("noise", model))
    images, spacing = elements(volume.data, acquisition, axis), sides(volume.spacing, acquisition, axis)
    space = Space(tuple(images.shape[1:]))
    maps = acquisition.maps(space, spacing, seed)
    unknown = acquisition.to_unknown(images, seed)
    operator = acquisition.operator(space, spacing, maps)
    check_count(operator, len(images))
    clean = operator(unknown)
    if law.real and clean.is_complex():
        raise ConfigError(
            f"{law.__name__} is a law of real numbers, {type(acquisition).__name__} measures complex ones; use "
            "gaussiannoise"
        )
    rng = Rng([(seed, p) for p in range(len(images))])
    y, noise_model, found = acquisition.measure(unknown, clean, maps, law, fraction, rng)
    shape = (volume.data.shape[0], volume.data.shape[1], volume.data.shape[2], volume.data.shape[3])
    facts = {"seed": seed, "noise": fraction, "noise_reference": acquisition.noise_reference, "simulated": True}
    return Measurement(y, acquisition, maps | found, noise_model, shape, axis, header_bytes(volume), facts)
