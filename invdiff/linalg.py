"""Conjugate gradients and power iteration on batches: each row has its own step sizes, none sees its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
FEW = 8  # slices that are handled at once where all of them would need memory for what lies between


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product Re<a, b> of each row, (B, *) and (B, *) -> (B,)."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a.flatten(1) * b.flatten(1)).sum(1)


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each row, (B, *) -> (B,)."""
    return dot(a, a).sqrt()


def root_sum_of_squares(x: Tensor, dim: int) -> Tensor:
    """Of coils or channels, real; `vector_norm` across them takes ten to a hundred times as long."""
    return x.abs().square().sum(dim).sqrt()


def rows(scale: Tensor, like: Tensor) -> Tensor:
    """Shape one number per row, (B,), so that it multiplies `like`, (B, *)."""
    return scale.reshape(-1, *[1] * (like.ndim - 1))


def each_row(act: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """act(row, ...) of each row of the batches, kept as a batch of one: nothing depends on a row's place."""
    if len(batches[0]) == 1:
        return act(*batches)
    return torch.cat([act(*row) for row in zip(*(b.split(1) for b in batches), strict=True)])


def few_of(count: int, few: int = FEW) -> Iterator[range]:
    """The numbers below `count`, few at a time."""
    return (range(first, min(first + few, count)) for first in range(0, count, few))


def stacked(parts: Iterable[Tensor], rows: int) -> Tensor:
    """`torch.cat` of parts (B, *) that come one after the other, of which none is kept; so many rows in all."""
    if torch.is_grad_enabled():  # the gradient of a copy into a part is as large as the whole
        return torch.cat(list(parts))
    out, first = torch.empty(0), 0
    for part in parts:
        out = out if first else part.new_empty((rows, *part.shape[1:]))
        out[first : first + len(part)] = part
        first += len(part)
    return out


def cg(matvec: Map, b: Tensor, x: Tensor | None = None, *, iterations: int, tolerance: float = 0.0) -> Tensor:
    """Solve M x = b for symmetric positive definite M (Hestenes and Stiefel 1952).

    Args:
        matvec: x -> M x on (B, *); complex rows use the real inner product Re<u, v>.
        b: right-hand side, (B, *).
        x: start, (B, *); zero by default, which costs no product.
        iterations: upper bound; Krylov steps from `x`.
        tolerance: rows whose residual fell below `tolerance * |b|` are frozen, so that further steps, taken for
            the sake of slower neighbours, cannot change them. Below rounding, where M has a null space, steps would
            divide rounding by rounding and grow without bound; there rows are frozen in any case.
    """
    if b.is_complex():  # the same steps with real numbers, whose sums and products take half the time

        def pairs(v: Tensor) -> Tensor:
            return torch.view_as_real(matvec(torch.view_as_complex(v)))

        b, x = torch.view_as_real(b), None if x is None else torch.view_as_real(x)
        return torch.view_as_complex(cg(pairs, b, x, iterations=iterations, tolerance=tolerance))
    tolerance = max(tolerance, 4 * torch.finfo(b.dtype).eps)
    x, r = (torch.zeros_like(b), b) if x is None else (x, b - matvec(x))
    for alpha, p in cg_steps(matvec, r, floor=tolerance**2 * dot(b, b), iterations=iterations):
        x = torch.addcmul(x, rows(alpha, x), p)
    return x


def cg_steps(
    matvec: Map, r: Tensor, *, floor: Tensor, iterations: int, first: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Step sizes (B,) and directions (B, *), whose products add up to the solution of M x = r.

    When a direction is yielded, `matvec` has just been applied to it. Rows have step size 0 from where their squared
    residual is below `floor`, (B,). The first direction is r, or `first`, e.g. a guess of the
    solution (augmented conjugate gradients: Erhel and Guyomarc'h, SIAM J. Matrix Anal. Appl. 2000).
    """
    rr = dot(r, r)
    p, slope = (r, rr) if first is None else (first, dot(first, r))
    for step in range(iterations):
        live = rr > floor
        if not bool(live.any()):
            return
        Mp = matvec(p)
        curvature = dot(p, Mp)
        live &= curvature > 0  # M is not what was promised, or rounding is all that is left: this row ends here
        alpha = torch.where(live, slope / curvature, 0.0)
        yield alpha, p
        if step == iterations - 1:
            return
        r = torch.addcmul(r, rows(-alpha, r), Mp)
        rr_next = dot(r, r)
        if first is not None and step == 0:
            deflated, p = (Mp, curvature), torch.zeros_like(p)
        beta = torch.where(live, rr_next / rr.clamp_min(torch.finfo(rr.dtype).tiny), 0.0)
        p = torch.addcmul(r, rows(beta, p), p)
        if first is not None:  # of no Krylov space of r: all directions are made conjugate to it
            Mf, c = deflated
            p = torch.addcmul(p, rows(torch.where(live, -dot(r, Mf) / c, 0.0), p), first)
        slope = rr = torch.where(live, rr_next, 0.0)


def power_iteration(matvec: Map, x: Tensor, *, iterations: int = 50) -> Tensor:
    """Largest eigenvalue of a symmetric positive semi-definite map, row by row from the start `x`, (B, *) -> (B,)."""
    value = torch.zeros(len(x), dtype=x.real.dtype)
    for _ in range(iterations):
        x = x / rows(norm(x).clamp_min(torch.finfo(value.dtype).tiny), x)
        y = matvec(x)
        value, x = dot(x, y), y
    return value
