import pytest
import torch

from invdiff.linalg import cg, cg_steps, dot, power_iteration, root_sum_of_squares, rows


def spd(n, dtype, scale=1.0):
    g = torch.Generator().manual_seed(0)
    M = torch.randn(n, n, dtype=dtype, generator=g)
    return scale * (M @ M.mH) / n + torch.eye(n, dtype=dtype)


def test_cg_solves():
    for dtype in (torch.float64, torch.complex128):
        M = spd(12, dtype)
        b = torch.randn(3, 12, dtype=dtype, generator=torch.Generator().manual_seed(1))
        x = cg(lambda v, M=M: v @ M.mT, b, torch.zeros_like(b), iterations=60)
        torch.testing.assert_close(x @ M.mT, b)


def test_cg_rows_do_not_see_each_other():
    M = spd(12, torch.float64)
    b = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    b[1] *= 1e6
    b[2] = 0
    kwargs = {"iterations": 7, "tolerance": 1e-3}
    together = cg(lambda v: v @ M, b, torch.zeros_like(b), **kwargs)
    for i in range(3):
        torch.testing.assert_close(
            cg(lambda v: v @ M, b[i : i + 1], torch.zeros(1, 12).double(), **kwargs)[0], together[i]
        )
    assert together[2].abs().max() == 0


def test_cg_frozen_rows_stay():
    """A row that has converged is the same whether or not its neighbours need more steps."""
    easy, hard = torch.ones(12).double(), torch.logspace(0, 6, 12).double()
    d = torch.stack([easy, hard])
    b = torch.ones(2, 12).double()
    x = cg(lambda v: d[: len(v)] * v, b, torch.zeros_like(b), iterations=40, tolerance=1e-8)
    assert torch.equal(x[:1], cg(lambda v: easy * v, b[:1], torch.zeros_like(b[:1]), iterations=40, tolerance=1e-8))


def test_cg_ends_a_row_that_meets_negative_curvature_and_no_other():
    """The Jacobian of a network is not what theory says: the row keeps what it has, instead of blowing up."""
    good, bad = torch.linspace(1, 9, 12).double(), torch.linspace(1, 9, 12).double()
    bad[3:] *= -1
    d, b = torch.stack([good, bad]), torch.ones(2, 12).double()
    x = cg(lambda v: d[: len(v)] * v, b, iterations=40, tolerance=1e-10)
    torch.testing.assert_close(x[0], 1 / good)
    assert bool(torch.isfinite(x[1]).all())
    assert x[1].norm() < 10


def test_cg_from_zero_saves_a_product():
    d, calls = torch.linspace(1, 9, 12).double(), []
    x = cg(lambda v: calls.append(1) or d * v, torch.ones(1, 12).double(), iterations=5)
    assert len(calls) == 5
    started = cg(lambda v: d * v, torch.ones(1, 12).double(), torch.zeros(1, 12).double(), iterations=5)
    assert torch.equal(x, started)


def test_dot_is_real():
    a = torch.tensor([[1 + 2j, 3 - 1j]])
    assert dot(a, 1j * a).item() == 0
    assert rows(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4, 5)).shape == (2, 1, 1, 1)


def test_power_iteration():
    M = spd(12, torch.float64, 5.0)
    x = torch.randn(1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(power_iteration(lambda v: v @ M, x, iterations=500), torch.linalg.eigvalsh(M)[-1:])


def test_cg_may_begin_with_a_guess_as_its_direction(generator):
    """Exact after as many steps as the space has dimensions, and with r as the guess the same numbers as without."""
    B = torch.randn(1, 5, 5, dtype=torch.float64, generator=generator)
    M = B @ B.mT + torch.eye(5)
    r, guess = torch.randn(2, 1, 5, dtype=torch.float64, generator=generator)

    def solution(first, iterations):
        steps = cg_steps(
            lambda v: (M @ v[..., None])[..., 0], r, floor=torch.zeros(1), iterations=iterations, first=first
        )
        return sum(alpha[:, None] * p for alpha, p in steps)

    want = torch.linalg.solve(M, r[..., None])[..., 0]
    torch.testing.assert_close(solution(None, 5), want)
    torch.testing.assert_close(solution(want, 1), want)
    torch.testing.assert_close(solution(guess, 6), want)
    torch.testing.assert_close(solution(2 * r, 3), solution(None, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float64])
def test_cg_ends_where_only_rounding_is_left(dtype):
    """A projection is undone by one step; nine more must not divide rounding by rounding."""
    g = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn((40, 15), generator=g).double())[0].to(dtype)
    b = torch.randn((4, 15), generator=g).to(dtype) @ Q.T.conj()
    x = cg(lambda v: v @ Q.conj() @ Q.T, b, iterations=10)
    torch.testing.assert_close(x, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_root_sum_of_squares(dtype):
    x = torch.randn((3, 4, 5), dtype=dtype, generator=torch.Generator().manual_seed(0))
    for dim in (0, 1):
        torch.testing.assert_close(root_sum_of_squares(x, dim), torch.linalg.vector_norm(x, dim=dim))
