"""One table of cases: every public operator obeys every law."""

import inspect
import math

import pytest
import torch

import invdiff.operators as public
from invdiff.operators import (
    FFT,
    NUFFT,
    CircularConvolution,
    Coils,
    ComplexFromChannels,
    ConeBeam,
    Convolution,
    Diagonal,
    FanBeam,
    FromDeepinv,
    Helical,
    Identity,
    LinearOperator,
    Mask,
    ParallelRadon,
    RealImage,
    Sense,
    Separable,
    Slicewise,
    Subdivided,
    UndersampledComplexFourier,
    UndersampledFourier,
    VaryingConvolution,
    area_average,
    average_pool,
    bicubic,
    gaussian_blur,
    resampled,
    thick_slices,
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


def kernel(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 3


def cube(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7


def sense(d, maps):
    coils = Coils(cplx(d), maps) @ ComplexFromChannels(real(d, 2))
    return Mask(coils.range, LINES) @ FFT(coils.range) @ coils


def anywhere(samples, *shape):
    generator = torch.Generator().manual_seed(4)
    return (torch.rand((samples, len(shape)), generator=generator, dtype=torch.float64) - 0.5) * torch.tensor(shape)


def fine(d):
    return 1e-6 if d == torch.float32 else 1e-12


LINES = torch.tensor([True, True, False, True, False, False, True])[:, None]
ANGLES = torch.arange(5) * math.pi / 5 + 0.1


class Shifted:
    """Physics with deepinv's interface: a difference between neighbouring rows, of twice the image."""

    def A(self, x):
        return 2 * (x[..., 1:, :] - x[..., :-1, :])

    def A_adjoint(self, y):
        zero = torch.zeros_like(y[..., :1, :])
        return 2 * (torch.cat([zero, y], dim=-2) - torch.cat([y, zero], dim=-2))


CASES = {
    "deepinv": lambda d: FromDeepinv(Shifted(), real(d, 2)),
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
    "radon pitch": lambda d: ParallelRadon(real(d), ANGLES, 7, pitch=1.4, offset=0.25),
    "radon slabs": lambda d: ParallelRadon(real(d, 2), ANGLES, max_bytes=1000),
    "fan": lambda d: FanBeam(real(d, 2), ANGLES, 9.0, 15.0),
    "fan off centre": lambda d: FanBeam(Space((1, 6, 8), d), ANGLES, 9.0, 9.0, 8, pitch=1.3, offset=2.25),
    "fan slabs": lambda d: FanBeam(real(d), ANGLES, 9.0, 15.0, max_bytes=1000),
    "cone": lambda d: ConeBeam(Space((1, 4, 5, 3), d), ANGLES[:3], 9.0, 15.0, (4, 7), cell=(1.7, 1.9), offset=0.25),
    "cone voxels": lambda d: ConeBeam(Space((2, 3, 4, 2), d), ANGLES[:2], 9.0, 15.0, (3, 4), voxel=(1.0, 1.2, 1.5)),
    "helix": lambda d: Helical(Space((1, 4, 3, 5), d), 5, 1.5, 9.0, 15.0, (3, 5), feed=2.5, cell=(1.7, 1.9)),
    "diagonal": lambda d: Diagonal(real(d, 2), tall(7, 6, 3).real),
    "diagonal complex": lambda d: Diagonal(cplx(d, 2), tall(7, 1, 3)),
    "diagonal with zeros": lambda d: Diagonal(cplx(d), mask(7, 6).double()),
    "diagonal per problem": lambda d: Diagonal(real(d), kernel(3, 1, 7, 1) + mask(7, 6)),
    "diagonal product": lambda d: Diagonal(cplx(d), tall(21, 6, 4).reshape(3, 1, 7, 6)) @ FFT(cplx(d)),
    "blur": lambda d: gaussian_blur(real(d, 2), (1.2, 0.7)),
    "blur 3-D": lambda d: gaussian_blur(Space((1, 4, 5, 3), d), (0.8, 0.0, 0.5)),
    "pool": lambda d: average_pool(real(d), (2, 3)),
    "rank deficient": lambda d: gaussian_blur(real(d), (9.0, 9.0)),
    "complex matrices": lambda d: Separable(cplx(d, 2), [tall(9, 7, 0), tall(4, 6, 1)]),
    "wide": lambda d: Separable(real(d), [tall(9, 7, 0).real, tall(4, 6, 1).real]),
    "one axis alone": lambda d: gaussian_blur(real(d, 2), (0.0, 0.9)),
    "pool 3-D": lambda d: average_pool(Space((1, 4, 5, 3), d), (2, 1, 2)),
    "area": lambda d: area_average(real(d, 2), (1.4, 2.5)),
    "bicubic": lambda d: bicubic(real(d), (2.0, 1.5)),
    "slices": lambda d: Slicewise(UndersampledFourier(real(d), LINES), 3, 2),
    "slices of a product": lambda d: Slicewise(sense(d, tall(14, 6, 5).reshape(2, 7, 6)), 2, 0),
    "slices of their own": lambda d: Slicewise(Diagonal(real(d), kernel(6, 1, 7, 6)), 2, 1),
    "resampled": lambda d: resampled(real(d, 2), (3, 9)),
    "subdivided": lambda d: Subdivided(UndersampledFourier(real(d), LINES), (1, 2)),
    "subdivided product": lambda d: Subdivided(sense(d, tall(21, 6, 5).reshape(3, 7, 6)), (2, 1)),
    "subdivided volume": lambda d: Subdivided(Slicewise(UndersampledFourier(real(d), LINES), 3, 2), (1, 1, 2)),
    "subdivided per problem": lambda d: Subdivided(Diagonal(real(d), kernel(3, 1, 7, 6)), (1, 3)),
    "thick slices": lambda d: thick_slices(Space((2, 3, 2, 7), d), 2, 2, 2),
    "thick slices with gap": lambda d: thick_slices(Space((1, 7, 3, 2), d), 0, 2, 1.3),
    "thick slices gaussian": lambda d: thick_slices(Space((1, 3, 7, 2), d), 1, 2, 2, "gaussian"),
    "thick slices smooth": lambda d: thick_slices(Space((1, 3, 2, 7), d), 2, 2, 1.5, "smooth"),
    "convolution circular": lambda d: CircularConvolution(real(d, 2), kernel(3, 4)),
    "convolution circular 3-D": lambda d: CircularConvolution(Space((1, 4, 5, 3), d), kernel(2, 5, 3)),
    "convolution circular singular": lambda d: CircularConvolution(Space((1, 8, 6), d), torch.ones(4, 3)),
    "convolution reflect": lambda d: Convolution(real(d), kernel(4, 6)),
    "convolution reflect 3-D": lambda d: Convolution(Space((2, 2, 3, 4), d), kernel(1, 2, 3)),
    "convolution zero": lambda d: Convolution(real(d), kernel(7, 2), "zero"),
    "convolution same": lambda d: Convolution(real(d), kernel(2, 3), "circular"),
    "varying reflect": lambda d: VaryingConvolution(real(d), kernel(2, 3, 3, 2)),
    "varying circular": lambda d: VaryingConvolution(real(d), kernel(1, 2, 3, 3), "circular"),
    "varying 3-D": lambda d: VaryingConvolution(Space((2, 2, 3, 3), d), kernel(2, 1, 2, 1, 3, 2), "zero"),
    "fft 3-D": lambda d: FFT(Space((2, 3, 4, 5), d.to_complex()), dims=3),
    "cartesian 3-D": lambda d: UndersampledFourier(Space((1, 3, 4, 5), d), cube(3, 1, 5), dims=3),
    "cartesian complex 3-D": lambda d: UndersampledComplexFourier(Space((2, 3, 4, 5), d), cube(3, 4, 5), dims=3),
    "coils": lambda d: Coils(cplx(d), tall(21, 6, 5).reshape(3, 7, 6)),
    "coils 3-D with a hole": lambda d: Coils(
        Space((1, 3, 2, 5), d.to_complex()), tall(12, 5, 5).reshape(2, 3, 2, 5) * cube(3, 2, 5)
    ),
    "sense, lines": lambda d: Sense(Coils(cplx(d), tall(21, 6, 5).reshape(3, 7, 6)), LINES),
    "sense, lines along the other axis": lambda d: Sense(Coils(cplx(d), tall(21, 6, 5).reshape(3, 7, 6)), LINES[:6].T),
    "sense, points, per problem": lambda d: Sense(Coils(cplx(d), tall(42, 6, 6).reshape(3, 2, 7, 6)), cube(7, 6)),
    "sense, all": lambda d: Sense(Coils(cplx(d), tall(21, 6, 5).reshape(3, 7, 6)), LINES | True),
    "sense 3-D": lambda d: Sense(
        Coils(Space((1, 3, 4, 5), d.to_complex()), tall(30, 4, 7).reshape(2, 3, 4, 5)), cube(3, 1, 5)
    ),
    "coils per problem": lambda d: Coils(cplx(d), tall(42, 6, 6).reshape(3, 2, 7, 6)),
    "sense": lambda d: sense(d, tall(21, 6, 5).reshape(3, 7, 6)),
    "sense per problem": lambda d: sense(d, tall(42, 6, 6).reshape(3, 2, 7, 6)),
    "sense real": lambda d: Coils(cplx(d), tall(14, 6, 5).reshape(2, 7, 6)) @ RealImage(real(d)),
    "nufft": lambda d: NUFFT(cplx(d), anywhere(70, 7, 6), backend="finufft"),
    "nufft few samples": lambda d: NUFFT(cplx(d), anywhere(29, 7, 6), backend="finufft", tolerance=fine(d)),
    "nufft 3-D": lambda d: NUFFT(Space((2, 3, 4, 2), d.to_complex()), anywhere(31, 3, 4, 2), backend="finufft"),
    "nufft toeplitz": lambda d: NUFFT(cplx(d, 2), anywhere(90, 7, 6), tolerance=fine(d), toeplitz=True),
    "gridding": lambda d: NUFFT(cplx(d, 2), anywhere(90, 7, 6), backend="gridding"),
    "gridding 3-D": lambda d: NUFFT(Space((1, 3, 4, 5), d.to_complex()), anywhere(41, 3, 4, 5), backend="gridding"),
    "gridding toeplitz": lambda d: NUFFT(
        cplx(d), anywhere(90, 7, 6), backend="gridding", tolerance=fine(d), toeplitz=True
    ),
    "nufft of coils": lambda d: (
        NUFFT(cplx(d, 3), anywhere(50, 7, 6))
        @ Coils(cplx(d), torch.stack([tall(7, 6, s) for s in range(3)]))
        @ ComplexFromChannels(real(d, 2))
    ),
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
