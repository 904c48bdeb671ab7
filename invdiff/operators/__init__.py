"""y = A(x)."""

from invdiff.operators.base import (
    Adjoint,
    Composed,
    LinearOperator,
    Operator,
    Scaled,
    Sum,
    SVDOperator,
)
from invdiff.operators.channels import ComplexFromChannels, RealImage
from invdiff.operators.fourier import FFT, UndersampledComplexFourier, UndersampledFourier, centred_mask_to_fft
from invdiff.operators.identity import Identity
from invdiff.operators.mask import Mask
from invdiff.operators.radon import ParallelRadon
from invdiff.operators.separable import Separable, average_matrix, average_pool, gaussian_blur, gaussian_matrix

__all__ = [
    "FFT",
    "Adjoint",
    "ComplexFromChannels",
    "Composed",
    "Identity",
    "LinearOperator",
    "Mask",
    "Operator",
    "ParallelRadon",
    "RealImage",
    "SVDOperator",
    "Scaled",
    "Separable",
    "Sum",
    "UndersampledComplexFourier",
    "UndersampledFourier",
    "average_matrix",
    "average_pool",
    "centred_mask_to_fft",
    "gaussian_blur",
    "gaussian_matrix",
]
