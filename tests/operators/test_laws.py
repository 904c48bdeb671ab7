"""One table of cases: every public operator obeys every law."""

import inspect
import math

import pytest
import torch

import invdiff.operators as public
from invdiff.operators import (
    FFT,
    ComplexFromChannels,
    Identity,
    LinearOperator,
    Mask,
    ParallelRadon,
    RealImage,
    Separable,
    UndersampledComplexFourier,
    UndersampledFourier,
    average_pool,
    gaussian_blur,
)
from invdiff.space import Space
from invdiff.testing.operators import check_dense, check_linear_operator

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def mask(h, w):
    return torch.rand((h, w), generator=torch.Generator().manual_seed(1)) < 0.4


def real(dtype, c=1):
    return Space((c, 7, 6), dtype)


def cplx(dtype, c=1):
    return Space((c, 7, 6), dtype.to_complex())


def tall(m, n, seed):
    return torch.randn(m, n, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


LINES = torch.tensor([True, True, False, True, False, False, True])[:, None]
ANGLES = torch.arange(5) * math.pi / 5 + 0.1
CASES = {
    "mask": lambda d: Mask(real(d, 2), mask(7, 6)),
    "mask complex": lambda d: Mask(cplx(d), mask(7, 6)),
    "fft": lambda d: FFT(cplx(d, 2)),
    "real image": lambda d: RealImage(real(d, 2)),
    "cartesian": lambda d: UndersampledFourier(real(d), LINES),
    "cartesian points": lambda d: UndersampledFourier(real(d, 2), mask(7, 6)),
    "cartesian even": lambda d: UndersampledFourier(Space((1, 6, 8), d), mask(6, 8)),
    "complex from channels": lambda d: ComplexFromChannels(real(d, 4)),
    "cartesian complex": lambda d: UndersampledComplexFourier(real(d, 2), LINES),
    "cartesian complex points": lambda d: UndersampledComplexFourier(real(d, 4), mask(7, 6)),
    "radon": lambda d: ParallelRadon(real(d), ANGLES),
    "radon channels": lambda d: ParallelRadon(real(d, 2), ANGLES),
    "radon even": lambda d: ParallelRadon(Space((1, 6, 8), d), ANGLES, 9),
    "blur": lambda d: gaussian_blur(real(d, 2), (1.2, 0.7)),
    "blur 3-D": lambda d: gaussian_blur(Space((1, 4, 5, 3), d), (0.8, 0.0, 0.5)),
    "pool": lambda d: average_pool(real(d), (2, 3)),
    "rank deficient": lambda d: gaussian_blur(real(d), (9.0, 9.0)),
    "complex matrices": lambda d: Separable(cplx(d, 2), [tall(9, 7, 0), tall(4, 6, 1)]),
    "wide": lambda d: Separable(real(d), [tall(9, 7, 0).real, tall(4, 6, 1).real]),
    "identity": lambda d: Identity(real(d, 2)),
    "product": lambda d: Mask(cplx(d), LINES) @ FFT(cplx(d)) @ RealImage(real(d)),
    "complex product": lambda d: Mask(cplx(d), LINES) @ FFT(cplx(d)) @ ComplexFromChannels(real(d, 2)),
    "sum": lambda d: Identity(real(d)) + gaussian_blur(real(d), (1.0, 1.0)),
    "scaled": lambda d: -2.5 * average_pool(real(d), (2, 2)),
    "adjoint": lambda d: average_pool(real(d), (2, 2)).H,
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_laws(name, dtype):
    A = CASES[name](dtype)
    check_linear_operator(A, TOLERANCE[dtype])
    check_dense(A, 10 * TOLERANCE[dtype])


def test_every_public_operator_has_a_row():
    classes = {c for c in vars(public).values() if inspect.isclass(c) and issubclass(c, LinearOperator)}
    concrete = {c for c in classes if not inspect.isabstract(c)}
    assert concrete == {type(make(torch.float32)) for make in CASES.values()}


def test_law_catches_a_wrong_adjoint():
    class Wrong(Identity):
        def adjoint(self, y):
            return 1.001 * y

    with pytest.raises(AssertionError, match="differ by"):
        check_linear_operator(Wrong(real(torch.float64)), 1e-10)


def test_law_catches_a_row_that_sees_its_neighbours():
    class Coupled(Identity):
        def forward(self, x):
            return x + x.mean(0, keepdim=True)

    with pytest.raises(AssertionError):
        check_linear_operator(Coupled(real(torch.float64)), 1e-10)
