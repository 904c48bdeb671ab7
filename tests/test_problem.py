"""What a unitary left end of an operator leaves to a solver, once it is taken into y."""

import pytest
import torch

from invdiff.noise import GaussianNoise, NoiseModel, RicianNoise
from invdiff.operators import (
    FFT,
    Coils,
    ComplexFromChannels,
    Diagonal,
    Identity,
    LinearOperator,
    Mask,
    Sense,
    Subdivided,
)
from invdiff.operators.sense import Readout
from invdiff.priors.gaussian import GaussianPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import DDS, DPS
from invdiff.space import Space
from invdiff.testing.operators import check_linear_operator, close, draw

D = torch.float64
PAIR = Space((2, 7, 6), D)
LINES = torch.tensor([True, True, False, True, False, False, True])[:, None]
POINTS = torch.rand((7, 6), generator=torch.Generator().manual_seed(1)) < 0.5


def sense(mask):
    maps = torch.randn((3, 7, 6), dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    return Sense(Coils(Space((1, 7, 6), torch.complex128), maps), mask)


def gain():
    weights = torch.rand((1, 7, 6), dtype=D, generator=torch.Generator().manual_seed(3)) + 0.5
    return Diagonal(Space((1, 7, 6), torch.complex128), weights)


CASES = {
    "sense": lambda: sense(LINES),
    "sense of channels": lambda: sense(LINES) @ ComplexFromChannels(PAIR),
    "sense along the other axis": lambda: sense(LINES[:6].T) @ ComplexFromChannels(PAIR),
    "sense of points": lambda: sense(POINTS) @ ComplexFromChannels(PAIR),
    "sense with a factor": lambda: sense(LINES) @ gain() @ ComplexFromChannels(PAIR),
    "sense of a finer grid": lambda: Subdivided(sense(LINES), (2, 1)),
    "fft of a mask": lambda: FFT(gain().range) @ gain(),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_but_the_frame_of_y_changes(name):
    A = CASES[name]()
    problem = InverseProblem(A, GaussianNoise(0.1), draw(A.range, 3, "y"))
    inner = problem.reduced()
    assert inner.operator is not A
    assert not any(isinstance(m, Readout | FFT) for m in inner.operator.modules())
    check_linear_operator(inner.operator, 1e-10)
    x = draw(A.domain, 3, "x")
    close("||y - A x||", inner.residual_norm2(x), problem.residual_norm2(x), 1e-12)
    close("log p(y | x)", inner.log_likelihood(x), problem.log_likelihood(x), 1e-12)
    close("A^H y", inner.operator.adjoint(inner.y), A.adjoint(problem.y), 1e-12)
    close("A^H A x", inner.operator.normal(x), A.normal(x), 1e-12)
    close("prox", inner.operator.prox(inner.y, x, 0.2, iterations=200), A.prox(problem.y, x, 0.2, iterations=200), 1e-6)


def test_norms_are_those_of_the_whole_operator_and_made_once(monkeypatch):
    A = sense(LINES) @ ComplexFromChannels(PAIR)
    norm2, mean_square = A.norm2, A.mean_square
    inner = InverseProblem(A, GaussianNoise(0.1), draw(A.range, 3, "y")).rows([2]).reduced().operator
    monkeypatch.setattr(LinearOperator, "normal", lambda *_: pytest.fail("the norm was made again"))
    assert (inner.norm2, inner.mean_square) == (norm2, mean_square)


@pytest.mark.parametrize(
    ("A", "noise"),
    [
        (Mask(Space((1, 7, 6), D), POINTS), GaussianNoise(0.1)),
        (FFT(Space((1, 7, 6), torch.complex128)) @ gain(), RicianNoise(0.1)),
        (Identity(PAIR), GaussianNoise(0.1)),
    ],
)
def test_the_same_problem_where_there_is_no_such_end_or_the_noise_is_not_white(A: LinearOperator, noise: NoiseModel):
    problem = InverseProblem(A, noise, draw(A.range, 1, "y"))
    assert problem.reduced() is problem


@pytest.mark.parametrize("solver", [DPS(steps=7), DDS(steps=7)])
def test_no_step_transforms_the_readout(solver, monkeypatch):
    calls = []
    monkeypatch.setattr(Readout, "forward", lambda *_: pytest.fail("a step went to k-space along the readout"))
    adjoint = Readout.adjoint
    monkeypatch.setattr(Readout, "adjoint", lambda self, y: calls.append(1) or adjoint(self, y))
    A = sense(LINES) @ ComplexFromChannels(PAIR)
    prior = GaussianPrior(torch.zeros(PAIR.shape, dtype=D), torch.ones(PAIR.shape, dtype=D))
    y = torch.ones((1, *A.range.shape), dtype=torch.complex128)
    A.norm2, A.mean_square = 10.0, 5.0  # of the problem as a whole, made before
    solve(InverseProblem(A, GaussianNoise(0.1), y), prior, solver, width=1)
    assert len(calls) == 1
