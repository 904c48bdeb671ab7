"""Each refusal says what was asked, what was found and what to do."""

import pytest
import torch

from invdiff.errors import CapabilityError, ConfigError, ShapeError
from invdiff.operators import (
    FFT,
    FromDeepinv,
    Mask,
    ParallelRadon,
    RealImage,
    Separable,
    UndersampledFourier,
    average_pool,
    gaussian_blur,
)
from invdiff.space import Space

REAL = Space((1, 30, 23))
COMPLEX = Space((1, 30, 23), torch.complex64)
LINES = torch.ones(30, 1, dtype=torch.bool)


class NoAdjoint:
    def A(self, x):
        return x


class Lists(NoAdjoint):
    def A(self, x):
        return [x]

    A_adjoint = NoAdjoint.A


class Square(NoAdjoint):
    def A(self, x):
        return x @ x

    A_adjoint = NoAdjoint.A


BAD = {
    "no adjoint": (
        lambda: FromDeepinv(NoAdjoint(), REAL),
        CapabilityError,
        "NoAdjoint has no A and A_adj",
    ),
    "lists": (
        lambda: FromDeepinv(Lists(), REAL),
        CapabilityError,
        "Lists measures a list, not a",
    ),
    "other images": (
        lambda: FromDeepinv(Square(), REAL),
        ShapeError,
        "Square does not take images of 1x30x23",
    ),
    "mask of another shape": (
        lambda: Mask(REAL, LINES[:5]),
        ShapeError,
        r"a mask of 5x1 does not fit images of 1x30x23 float32: it must broadcast to \(30, 23\)",
    ),
    "empty mask": (lambda: Mask(REAL, ~LINES), ConfigError, "False everywhere: nothing would be measured"),
    "float mask": (lambda: Mask(REAL, LINES.float()), ConfigError, r"is float32, not boolean; give e.g. mask > 0"),
    "real FFT": (lambda: FFT(REAL), ConfigError, "complex images, found 1x30x23 float32; put RealImage to its right"),
    "complex image made complex": (lambda: RealImage(COMPLEX), ConfigError, "needs real images, found 1x30x23 complex"),
    "complex cartesian": (
        lambda: UndersampledFourier(COMPLEX, LINES),
        ConfigError,
        "needs real images.*UndersampledComplexFourier",
    ),
    "degrees": (
        lambda: ParallelRadon(REAL, [0.0, 90.0]),
        ConfigError,
        "angles are in radians, the largest is 90; convert degrees by torch.deg2rad",
    ),
    "not a number": (lambda: ParallelRadon(REAL, [float("nan")]), ConfigError, "angles are in radians"),
    "no angles": (lambda: ParallelRadon(REAL, []), ConfigError, "no angles given"),
    "no detectors": (lambda: ParallelRadon(REAL, [0.0], 0), ConfigError, "at least one detector.*, got 0"),
    "CT of a volume": (lambda: ParallelRadon(Space((1, 4, 4, 4)), [0.0]), ShapeError, r"\(C, H, W\), found 1x4x4x4"),
    "complex CT": (lambda: ParallelRadon(COMPLEX, [0.0]), ConfigError, "real images, found 1x30x23 complex64"),
    "matrices of other sizes": (
        lambda: Separable(REAL, [torch.eye(3), torch.eye(23)]),
        ShapeError,
        r"widths \(3, 23\) do not fit images of 1x30x23 float32",
    ),
    "a matrix too few": (lambda: Separable(REAL, [torch.eye(30)]), ShapeError, "one per spatial axis"),
    "negative blur": (lambda: gaussian_blur(REAL, (-1.0, 1.0)), ConfigError, "must be >= 0 voxels, got -1"),
    "a blur too many": (lambda: gaussian_blur(REAL, (1.0, 1.0, 1.0)), ShapeError, "3 standard deviations given for"),
    "coarser than the axis": (
        lambda: average_pool(REAL, (31, 1)),
        ConfigError,
        "between 1 and the axis' length 30",
    ),
    "a factor too few": (lambda: average_pool(REAL, (2,)), ShapeError, "1 factors given for images of 1x30x23"),
    "product that does not fit": (
        lambda: average_pool(REAL, (2, 2)) @ average_pool(REAL, (2, 2)),
        ShapeError,
        "cannot compose Separable.*: 1x15x12 float32 is not 1x30x23 float32",
    ),
    "sum that does not fit": (
        lambda: average_pool(REAL, (2, 2)) + gaussian_blur(REAL, (1, 1)),
        ShapeError,
        "cannot add Separable.* and Separable.*: their spaces differ",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_message(name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()
