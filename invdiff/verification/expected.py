"""How near each sampler comes to a known posterior: its documented bias, to which `verify` holds it.

The limits are the largest distances that were found over the six problems, with room for the error of 400 samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from invdiff.verification.measures import Distance

Range = tuple[float, float]


@dataclass(frozen=True)
class Expected:
    """Settings a solver is verified with, and what it must keep; by default those of an exact sampler.

    Attributes:
        settings: that differ from the defaults.
        mean, std, chi2, wasserstein: limits, see `Distance`.
        remark: where the bias comes from.
    """

    settings: dict[str, object] = field(default_factory=dict)
    mean: float = 0.15
    std: Range = (0.9, 1.1)
    chi2: Range = (0.9, 1.1)
    wasserstein: float = 0.06
    remark: str = ""

    def holds(self, d: Distance) -> bool:
        """Whether the distance is within the limits; not a number is not."""
        inside = self.std[0] <= d.std <= self.std[1] and self.chi2[0] <= d.chi2 <= self.chi2[1]
        return d.mean <= self.mean and inside and d.wasserstein <= self.wasserstein


EXPECTED = {
    "daps": Expected(
        mean=0.2,
        wasserstein=0.09,
        remark="takes the voxels for independent where it draws; forgets that at the next level",
    ),
    "ddnm": Expected(
        mean=4.0,
        std=(0.15, 1.1),
        chi2=(0.0, 0.75),
        wasserstein=3.3,
        remark="takes all singular values for equal: wrong for blur; counts the data again at every level",
    ),
    "ddnmplus": Expected(
        mean=0.7,
        std=(0.45, 1.0),
        chi2=(0.35, 0.9),
        wasserstein=0.5,
        remark="as ddrm",
    ),
    "ddrm": Expected(
        mean=0.7,
        std=(0.45, 1.0),
        chi2=(0.35, 0.9),
        wasserstein=0.5,
        remark="counts the data again at every level below the noise of a mode",
    ),
    "dds": Expected(
        mean=1.2,
        std=(0.1, 1.2),
        chi2=(0.0, 0.7),
        wasserstein=1.0,
        remark="follows the data with one weight at all levels, whatever their noise: also the noise",
    ),
    "scd": Expected(
        mean=1.2,
        std=(0.1, 1.2),
        chi2=(0.0, 0.7),
        wasserstein=1.0,
        remark="as dds; its prior can follow a scan",
    ),
    "diffpir": Expected(
        mean=0.5,
        std=(0.9, 1.25),
        chi2=(0.75, 1.1),
        wasserstein=0.3,
        remark="the proximal step takes the denoised voxels for independent, of variance sigma^2",
    ),
    "dps": Expected(
        mean=1.5,
        std=(0.15, 1.1),
        chi2=(0.0, 0.7),
        wasserstein=1.3,
        remark="ignores how uncertain the denoised image is, and ends in a limit cycle around the data",
    ),
    "dmid": Expected(remark="exact but for its steps"),
    "flowdps": Expected(
        mean=0.55,
        std=(0.7, 1.2),
        chi2=(0.45, 1.0),
        wasserstein=0.32,
        remark="takes the voxels for independent; its ladder has few low levels",
    ),
    "i2sb": Expected(
        settings={"steps": 100},
        mean=0.35,
        std=(0.7, 1.1),
        chi2=(0.5, 1.1),
        wasserstein=0.2,
        remark="an exact bridge shown x1 (of blur, not exact); its last step gives a mean: too smooth",
    ),
    "cddb": Expected(
        settings={"steps": 100},
        mean=0.35,
        std=(0.7, 1.1),
        chi2=(0.5, 1.1),
        wasserstein=0.2,
        remark="as i2sb: an exact bridge leaves nothing to correct",
    ),
    "mmps": Expected(remark="exact but for its steps, on any Gaussian prior"),
    "pigdm": Expected(
        mean=0.3,
        chi2=(0.9, 1.3),
        wasserstein=0.18,
        remark="takes the voxels for independent; exact where they are",
    ),
    "pnpdm": Expected(
        mean=0.35,
        std=(0.9, 1.15),
        chi2=(0.9, 1.4),
        wasserstein=0.2,
        remark="sweeps at a small coupling mix slowly: more of them are better",
    ),
    "tpdm": Expected(remark="volumes; takes the voxels for independent, but for how far it goes"),
    "dds3d": Expected(
        mean=0.8,
        std=(0.0, 0.5),
        chi2=(0.0, 0.05),
        wasserstein=0.9,
        remark="volumes; follows the data and the smoothness across slices, the prior only where it begins",
    ),
    "diffusionmbir": Expected(
        mean=0.5,
        std=(0.2, 0.8),
        chi2=(0.0, 0.05),
        wasserstein=0.65,
        remark="volumes; follows the data with their noise, and the smoothness across slices more than the prior",
    ),
    "rsd": Expected(
        mean=1.4,
        std=(0.5, 2.8),
        chi2=(0.6, 3.2),
        wasserstein=1.1,
        remark="particles that repel, not samples: the spread means nothing",
    ),
}
