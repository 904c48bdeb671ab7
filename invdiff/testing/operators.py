"""Laws that every linear operator obeys. Give `tolerance` = 1e-10 in float64, 1e-5 in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.linalg import cg, dot, norm
from invdiff.operators.base import LinearOperator, SVDOperator
from invdiff.rng import generator
from invdiff.space import Space


def check_linear_operator(A: LinearOperator, tolerance: float) -> None:
    """All laws at once, on 3 random rows; an operator that holds one thing for each problem has 3 of them."""
    x, u = draw(A.domain, 3, "x"), draw(A.domain, 3, "u")
    y = draw(A.range, 3, "y")
    check_spaces(A, x, y)
    close("A(2x - 3u) = 2Ax - 3Au", A(2 * x - 3 * u), 2 * A(x) - 3 * A(u), tolerance)
    gap = (dot(A(x), y) - dot(x, A.adjoint(y))).abs() / (norm(A(x)) * norm(y)).clamp_min(1e-30)
    assert bool((gap < tolerance).all()), f"<Ax, y> and <x, A^H y> differ by {gap.max():.1e} of |Ax||y|"
    close("normal = A^H A", A.normal(x), A.adjoint(A(x)), tolerance)
    check_gradient(A, x, y, tolerance)
    check_rows(A, x, tolerance)
    check_prox(A, x, y, tolerance)
    check_factors(A, x, y, tolerance)
    if isinstance(A, SVDOperator):
        check_svd(A, x, y, tolerance)


def check_dense(A: LinearOperator, tolerance: float) -> None:
    """Everything against the operator's matrix, entry by entry; small operators only.

    The adjoint is the transpose, prox and solve_y solve their systems, pinv has the four Penrose conditions, norm2 is
    the largest squared singular value.
    """
    A, norm2 = (A, A.norm2) if A.problems is None else (A.rows([0, 0, 0]), A.norm2)
    M, T = dense(A), dense(A.H)
    close("matrix of A^H = transpose of A", T, M.T, tolerance)
    x, y = draw(A.domain, 3, "x"), draw(A.range, 3, "y")
    close("A x = matrix of A times x", reals(A(x)), reals(x) @ M.T, tolerance)
    rho = 0.5 * norm2
    want = torch.linalg.solve(M.T @ M + rho * torch.eye(M.shape[1]).to(M), (reals(y) @ M + rho * reals(x)).T).T
    # The default prox stops at a relative residual of 1e-6.
    close("prox = dense solve", reals(A.prox(y, x, rho, iterations=200)), want, max(tolerance, 1e-5))
    want = torch.linalg.solve(M @ M.T + rho * torch.eye(M.shape[0]).to(M), reals(y).T).T
    close("solve_y = dense solve", reals(A.solve_y(y, rho, iterations=200)), want, max(tolerance, 1e-5))
    s = torch.linalg.svdvals(M)
    if A.problems is None:
        assert norm2 <= float(s[0]) ** 2 * (1 + 1e-4), f"norm2 is {norm2:.5g}, above {float(s[0]) ** 2:.5g}"
        assert norm2 >= 0.95 * float(s[0]) ** 2, f"norm2 is {norm2:.5g}, the largest eigenvalue {float(s[0]) ** 2:.5g}"
        assert A.opnorm == norm2**0.5
    if M.dtype == torch.float64 and float(s[0]) < 1e4 * float(s[s > 1e-9 * s[0]][-1]):
        check_pinv(A, M)


def check_pinv(A: LinearOperator, M: Tensor, tolerance: float = 1e-5) -> None:
    """The four conditions of Penrose (1955) on the matrix of y -> pinv(y), given M, that of A; well-conditioned A."""
    y = basis(A.range)
    P = reals(A.rows([0] * len(y)).pinv(y, iterations=4 * len(M))).T
    close("A P A = A", M @ P @ M, M, tolerance)
    close("P A P = P", P @ M @ P, P, tolerance)
    close("A P is symmetric", M @ P, (M @ P).T, tolerance)
    close("P A is symmetric", P @ M, (P @ M).T, tolerance)


def check_spaces(A: LinearOperator, x: Tensor, y: Tensor) -> None:
    """Domain and range tell the truth about shape and dtype; inputs are left alone."""
    before_x, before_y = x.clone(), y.clone()
    Ax, AHy = A(x), A.adjoint(y)
    assert (tuple(Ax.shape[1:]), Ax.dtype) == (A.range.shape, A.range.dtype), f"A(x) is {Ax.shape}, not {A.range}"
    assert (tuple(AHy.shape[1:]), AHy.dtype) == (A.domain.shape, A.domain.dtype), f"A^H y is {AHy.shape}"
    assert torch.equal(x, before_x), "A changed its input"
    assert torch.equal(y, before_y), "A^H changed its input"
    assert Ax.device == x.device, "A moved its input to another device"


def check_gradient(A: LinearOperator, x: Tensor, y: Tensor, tolerance: float) -> None:
    """Autograd of Re<A x, y> is A^H y."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(dot(A(x), y).sum(), x)
    close("autograd = adjoint", gradient, A.adjoint(y), tolerance)


def check_rows(A: LinearOperator, x: Tensor, tolerance: float) -> None:
    """A row owes nothing to its neighbours: bit for bit at equal width, to rounding at another."""
    turned, alone = A.rows([2, 0, 1]), A.rows([0])
    maps = (("A", A, turned, alone, x), ("A^H", A.adjoint, turned.adjoint, alone.adjoint, A(x)))
    for name, f, f_turned, f_alone, v in maps:
        assert torch.equal(f_turned(v.roll(1, 0)).roll(-1, 0), f(v)), f"{name}: a row changed with its place"
        stranger = torch.cat([v[:1], 1e3 * v[1:]])
        assert torch.equal(f(stranger)[:1], f(v)[:1]), f"{name}: a row changed with its neighbours"
        close(f"{name}: alone = in a batch", f_alone(v[:1]), f(v)[:1], tolerance)


def check_prox(A: LinearOperator, x: Tensor, y: Tensor, tolerance: float) -> None:
    """The optimality condition of argmin_u ||y - A u||^2 + rho ||u - x||^2."""
    rho = 0.3
    # CG's tolerance is of its first residual, in norm; the law's of the largest element: hence the 100.
    u = A.prox(y, x, rho, iterations=200, tolerance=min(tolerance, 3e-7))
    close("prox", A.normal(u) + rho * u, A.adjoint(y) + rho * x, 100 * tolerance)


def check_factors(A: LinearOperator, x: Tensor, y: Tensor, tolerance: float) -> None:
    """A = N U = W M with unitary U and W; conjugate gradients with N take the steps that they take with A."""
    (N, U), (W, M) = A.factored(), A.left_end()
    Ux = U(x) if U else x
    WHy = W.adjoint(y) if W else y
    close("N U = A", N(Ux), A(x), tolerance)
    close("W M = A", W(M(x)) if W else M(x), A(x), tolerance)
    for name, E, u, v in (("U", U, x, Ux), ("W", W, WHy, y)):
        if E:
            close(f"{name}^H {name} = 1", E.adjoint(E(u)), u, tolerance)
            close(f"{name} {name}^H = 1", E(E.adjoint(v)), v, tolerance)
    rho = 0.3
    b = A.adjoint(y - A(x))
    want = x + cg(lambda v: A.normal(v) + rho * v, b, iterations=3)
    close("descent", A.descend(y, x, rho, iterations=3), want, 100 * tolerance)


def check_svd(A: SVDOperator, x: Tensor, y: Tensor, tolerance: float) -> None:
    """A = U diag(s) V^H with unitary V, U^H the adjoint of U, and U^H U = 1 where s > 0, 0 on the other modes."""
    s = A.singular_values
    assert bool((s >= 0).all()), f"a singular value is negative: {float(s.min()):.3g}"
    close("U diag(s) V^H = A", A.U(s * A.VH(x)), A(x), tolerance)
    close("V V^H = 1", A.V(A.VH(x)), x, tolerance)
    close("V^H V = 1", A.VH(A.V(x)), x, tolerance)
    gap = (dot(A.U(x), y) - dot(x, A.UH(y))).abs() / (norm(x) * norm(y))
    assert bool((gap < tolerance).all()), f"<U m, y> and <m, U^H y> differ by {gap.max():.1e} of |m||y|"
    close("U^H U = 1 where s > 0, else 0", A.UH(A.U(x)), torch.where(s > 0, x, 0), tolerance)


def draw(space: Space, rows: int, name: str) -> Tensor:
    """Standard normal elements, (rows, *shape), the same at each call."""
    return torch.randn((rows, *space.shape), dtype=space.dtype, generator=generator("laws", name))


def dense(A: LinearOperator) -> Tensor:
    """The real matrix of A, or of its first problem; complex elements count as pairs of real ones."""
    columns = basis(A.domain)
    return reals(A.rows([0] * len(columns))(columns)).T


def basis(space: Space) -> Tensor:
    """All unit elements, (reals, *shape); a complex number counts as two reals."""
    unit = torch.eye(space.reals, dtype=space.dtype.to_real())
    if space.dtype.is_complex:
        return torch.view_as_complex(unit.reshape(len(unit), *space.shape, 2))
    return unit.reshape(len(unit), *space.shape)


def reals(a: Tensor) -> Tensor:
    """Rows as vectors of real numbers, (B, *) -> (B, n); a complex number counts as two."""
    return (torch.view_as_real(a) if a.is_complex() else a).flatten(1)


def close(law: str, got: Tensor, want: Tensor, tolerance: float) -> None:
    """Largest difference below `tolerance` times the largest value."""
    error = float((got - want).abs().max() / want.abs().max().clamp_min(1e-30)) if want.numel() else 0.0
    assert error < tolerance, f"{law}: off by {error:.1e}, allowed {tolerance:.0e}"
