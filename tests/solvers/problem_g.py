"""Reference problem G: three independent scalar modes with a posterior known in closed form."""

import torch
from invdiff.noise import GaussianNoise
from invdiff.operators import Separable
from invdiff.priors import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.space import Space

A_DIAGONAL = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
SIGMA = 0.2


def prior(**kwargs):
    mean = torch.tensor([[0.0, 0.5, -0.3]], dtype=torch.float64)
    return GaussianPrior(mean, torch.tensor([1.0, 0.25, 1.0], dtype=torch.float64), **kwargs)


def problem(a=A_DIAGONAL, sigma=SIGMA, y=(1.0, 0.6, 0.0)):
    A = Separable(Space((1, 3), torch.float64), [torch.diag(a)])
    return InverseProblem(A, GaussianNoise(sigma), torch.tensor([[y]], dtype=torch.float64))
