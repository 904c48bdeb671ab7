"""A weight of its own for each element, and for each problem."""

import pytest
import torch

from invdiff.errors import ConfigError, ShapeError
from invdiff.operators import FFT, Diagonal
from invdiff.space import Space
from invdiff.testing.operators import dense

REAL = Space((2, 5, 4), torch.float64)
COMPLEX = Space((2, 5, 4), torch.complex128)


def weights(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_its_matrix_is_diagonal():
    w = weights(2, 5, 4)
    torch.testing.assert_close(dense(Diagonal(REAL, w)), torch.diag(w.flatten()))


def test_complex_products_are_torchs():
    w, x = weights(5, 4, dtype=torch.complex128), weights(3, 2, 5, 4, dtype=torch.complex128)
    A = Diagonal(COMPLEX, w)
    torch.testing.assert_close(A(x), w * x)
    torch.testing.assert_close(A.adjoint(x), w.conj() * x)
    torch.testing.assert_close(A.adjoint(x.conj()), w.conj() * x.conj())


def test_each_problem_has_weights_of_its_own():
    w, x = weights(3, 1, 5, 1), weights(3, 2, 5, 4)
    A = Diagonal(REAL, w)
    assert A.problems == 3
    torch.testing.assert_close(A(x), w * x)
    part = A.rows([2, 2, 0, 1])
    assert part.problems == 4
    torch.testing.assert_close(part(x[[2, 2, 0, 1]]), (w * x)[[2, 2, 0, 1]])
    assert A.rows([0]).norm2 == A.norm2 == pytest.approx(float(w.abs().max()) ** 2), "the norm stays that of all"
    assert (A @ Diagonal(REAL, weights(4))).problems == 3


def test_direct_divides_and_leaves_out_what_was_left_out():
    w = weights(5, 4)
    w[1, 2] = 0
    x = weights(1, 2, 5, 4)
    back = Diagonal(REAL, w).direct(w * x)
    torch.testing.assert_close(back, torch.where(w != 0, x, 0))
    phase = weights(5, 4, dtype=torch.complex128)
    z = torch.complex(x, x.flip(-1))
    torch.testing.assert_close((Diagonal(COMPLEX, phase) @ FFT(COMPLEX)).direct(phase * FFT(COMPLEX)(z)), z)


def test_weights_follow_the_space():
    A = Diagonal(Space((2, 5, 4)), weights(5, 4))
    assert A.weights.dtype == torch.float32
    assert Diagonal(Space((2, 5, 4), torch.complex64), weights(5, 4)).weights.dtype == torch.float32
    assert A.to(torch.float64).weights.dtype == torch.float64, "a buffer"


@pytest.mark.parametrize(
    ("space", "w", "error", "message"),
    [
        (REAL, weights(5, 4) * 1j, ConfigError, "complex weights on 2x5x4 float64; put RealImage or ComplexFromCh"),
        (REAL, weights(5, 4) / 0, ConfigError, "some weights are NaN or infinite; a weight of 0 leaves an element"),
        (REAL, weights(3, 4), ShapeError, r"weights of 3x4 do not fit 2x5x4 float64: they must broadcast to \(2, 5"),
        (REAL, weights(6, 2, 5, 3), ShapeError, r"weights of 6x2x5x3 do not fit.*with one axis more to \(P, 2, 5, 4"),
        (REAL, weights(1, 3, 2, 5, 4), ShapeError, "weights of 1x3x2x5x4 do not fit"),
    ],
)
def test_refusals(space, w, error, message):
    with pytest.raises(error, match=message):
        Diagonal(space, w)
