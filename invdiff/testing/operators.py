"""Laws that every linear operator obeys. Give `tolerance` = 1e-10 in float64, 1e-5 in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.linalg import dot, norm
from invdiff.operators.base import LinearOperator, SVDOperator
from invdiff.rng import generator
from invdiff.space import Space


def check_linear_operator(A: LinearOperator, tolerance: float) -> None:
    """All laws at once, on 3 random rows."""
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
    if isinstance(A, SVDOperator):
        check_svd(A, x, y, tolerance)


def check_dense(A: LinearOperator, tolerance: float) -> None:
    """The adjoint's real matrix is the transpose of the operator's, entry by entry; small operators only."""
    M, T = dense(A), dense(A.H)
    close("matrix of A^H = transpose of A", T, M.T, tolerance)
    x, y = draw(A.domain, 3, "x"), draw(A.range, 3, "y")
    close("A x = matrix of A times x", reals(A(x)), reals(x) @ M.T, tolerance)
    rho = 0.5 * A.norm2
    want = torch.linalg.solve(M.T @ M + rho * torch.eye(M.shape[1]).to(M), (reals(y) @ M + rho * reals(x)).T).T
    # The default prox stops at a relative residual of 1e-6.
    close("prox = dense solve", reals(A.prox(y, x, rho, iterations=200)), want, max(tolerance, 1e-5))
    top = float(torch.linalg.matrix_norm(M, 2)) ** 2
    assert A.norm2 <= top * (1 + 1e-4), f"norm2 is {A.norm2:.5g}, above the largest eigenvalue {top:.5g}"
    assert A.norm2 >= 0.95 * top, f"norm2 is {A.norm2:.5g}, the largest eigenvalue {top:.5g}"


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
    for name, f, v in (("A", A, x), ("A^H", A.adjoint, A(x))):
        turned = f(v.roll(1, 0)).roll(-1, 0)
        assert torch.equal(turned, f(v)), f"{name}: a row changed with its place in the batch"
        stranger = torch.cat([v[:1], 1e3 * v[1:]])
        assert torch.equal(f(stranger)[:1], f(v)[:1]), f"{name}: a row changed with its neighbours"
        close(f"{name}: alone = in a batch", f(v[:1]), f(v)[:1], tolerance)


def check_prox(A: LinearOperator, x: Tensor, y: Tensor, tolerance: float) -> None:
    """The optimality condition of argmin_u ||y - A u||^2 + rho ||u - x||^2."""
    rho = 0.3
    u = A.prox(y, x, rho, iterations=200)
    close("prox", A.normal(u) + rho * u, A.adjoint(y) + rho * x, max(100 * tolerance, 2e-6))


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
    """The real matrix of A; complex elements count as pairs of real ones."""
    basis = torch.eye(A.domain.reals, dtype=A.domain.dtype.to_real())
    if A.domain.dtype.is_complex:
        columns = torch.view_as_complex(basis.reshape(len(basis), *A.domain.shape, 2))
    else:
        columns = basis.reshape(len(basis), *A.domain.shape)
    return reals(A(columns)).T


def reals(a: Tensor) -> Tensor:
    """Rows as vectors of real numbers, (B, *) -> (B, n); a complex number counts as two."""
    return (torch.view_as_real(a) if a.is_complex() else a).flatten(1)


def close(law: str, got: Tensor, want: Tensor, tolerance: float) -> None:
    """Largest difference below `tolerance` times the largest value."""
    error = float((got - want).abs().max() / want.abs().max().clamp_min(1e-30)) if want.numel() else 0.0
    assert error < tolerance, f"{law}: off by {error:.1e}, allowed {tolerance:.0e}"
