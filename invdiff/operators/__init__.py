"""y = A(x)."""

from invdiff.operators.base import (
    Adjoint,
    Composed,
    LinearOperator,
    Operator,
    Scaled,
    Sum,
    SVDOperator,
    Unitary,
)
from invdiff.operators.channels import ComplexFromChannels, RealImage
from invdiff.operators.coils import Coils
from invdiff.operators.cone import ConeBeam
from invdiff.operators.convolution import CircularConvolution, Convolution, convolution
from invdiff.operators.deepinv import FromDeepinv
from invdiff.operators.diagonal import Diagonal
from invdiff.operators.fanbeam import FanBeam
from invdiff.operators.fourier import FFT, UndersampledComplexFourier, UndersampledFourier, centred_mask_to_fft
from invdiff.operators.helical import Helical
from invdiff.operators.identity import Identity
from invdiff.operators.mask import Mask
from invdiff.operators.nufft import NUFFT
from invdiff.operators.radon import ParallelRadon
from invdiff.operators.resample import (
    area_average,
    area_matrix,
    average_matrix,
    average_pool,
    bicubic,
    bicubic_matrix,
    linear_matrix,
    resampled,
    slice_matrix,
    thick_slices,
)
from invdiff.operators.sense import Sense
from invdiff.operators.separable import Separable, gaussian_blur, gaussian_matrix
from invdiff.operators.slicewise import Slicewise
from invdiff.operators.subdivided import Subdivided
from invdiff.operators.varying import VaryingConvolution

__all__ = [
    "FFT",
    "NUFFT",
    "Adjoint",
    "CircularConvolution",
    "Coils",
    "ComplexFromChannels",
    "Composed",
    "ConeBeam",
    "Convolution",
    "Diagonal",
    "FanBeam",
    "FromDeepinv",
    "Helical",
    "Identity",
    "LinearOperator",
    "Mask",
    "Operator",
    "ParallelRadon",
    "RealImage",
    "SVDOperator",
    "Scaled",
    "Sense",
    "Separable",
    "Slicewise",
    "Subdivided",
    "Sum",
    "UndersampledComplexFourier",
    "UndersampledFourier",
    "Unitary",
    "VaryingConvolution",
    "area_average",
    "area_matrix",
    "average_matrix",
    "average_pool",
    "bicubic",
    "bicubic_matrix",
    "centred_mask_to_fft",
    "convolution",
    "gaussian_blur",
    "gaussian_matrix",
    "linear_matrix",
    "resampled",
    "slice_matrix",
    "thick_slices",
]
