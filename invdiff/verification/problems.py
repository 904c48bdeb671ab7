"""Inverse problems whose posterior is known in closed form: the truth that solvers are held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from invdiff.bridges import GaussianBridge, i2sb
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity, LinearOperator, Mask, UndersampledFourier, gaussian_blur, thick_slices
from invdiff.priors import GaussianPrior, MixturePrior, Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng, generator
from invdiff.space import Space

SIDE, NOISE = 8, 0.05
SPACE = Space((1, SIDE, SIDE), torch.float64)


@dataclass(frozen=True, eq=False)
class Known:
    """A problem with its posterior, a mixture of K Gaussians over n voxels.

    Attributes:
        name: what it is called in tables.
        problem: P = 1, images (1, 8, 8) on about [0, 1], noise 0.05.
        prior: exact.
        weights, means, covariances: of the posterior, (K,), (K, n), (K, n, n).
    """

    name: str
    problem: InverseProblem[LinearOperator, GaussianNoise]
    prior: Prior
    weights: Tensor
    means: Tensor
    covariances: Tensor

    @property
    def bridge(self) -> GaussianBridge | None:
        """Of a Gaussian prior, the bridge from direct reconstructions to images that is shown x1."""
        if not isinstance(self.prior, GaussianPrior):
            return None
        A, prior = self.problem.operator, self.prior
        S = matrix(lambda x: prior.synthesis(prior.variance * prior.analysis(x)), prior.space)
        F = matrix(A, prior.space)
        y = torch.eye(F.shape[0]).to(F)
        y = torch.view_as_complex(y.unflatten(1, (-1, 2))) if self.problem.y.is_complex() else y
        D = A.direct(y.reshape(-1, *A.range.shape)).flatten(1).T
        noise = self.problem.noise.sigma**2 * torch.eye(len(F)).to(F)
        ends = {"C00": S, "C01": S @ F.T @ D.T, "C11": D @ (F @ S @ F.T + noise) @ D.T}
        means = {"mean0": prior.mean.flatten(), "mean1": D @ F @ prior.mean.flatten()}
        return GaussianBridge(prior.space, i2sb(), conditional=True, **ends, **means)

    @property
    def mean(self) -> Tensor:
        """Posterior mean, (n,)."""
        return self.weights @ self.means

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of each voxel, (n,)."""
        spread = self.covariances.diagonal(dim1=1, dim2=2) + (self.means - self.mean) ** 2
        return (self.weights @ spread).sqrt()

    def draw(self, count: int, seed: int = 0) -> Tensor:
        """Exact posterior samples, (count, n)."""
        g = generator(seed, "posterior", self.name)
        k = torch.multinomial(self.weights, count, replacement=True, generator=g)
        roots = torch.linalg.cholesky(self.covariances + 1e-12 * torch.eye(self.means.shape[1]).to(self.means))
        xi = torch.randn((count, self.means.shape[1]), dtype=self.means.dtype, generator=g)
        return self.means[k] + (roots[k] @ xi[..., None])[..., 0]


@cache
def known() -> tuple[Known, ...]:
    """Priors (smooth Gaussian, two-humped mixture) x operators (with and without null space), and one of each kind."""
    gauss, humps = gaussian(), mixture()
    operators: dict[str, LinearOperator] = {
        "denoise": Identity(SPACE),
        "blur": gaussian_blur(SPACE, (0.7, 0.7)),
        "inpaint": Mask(SPACE, torch.rand((SIDE, SIDE), generator=generator("verify", "mask")) < 0.6),
        "mri": UndersampledFourier(SPACE, (torch.arange(SIDE) % 2 == 0)[:, None]),
    }
    cases: list[tuple[str, GaussianPrior | MixturePrior, str]] = [("gaussian", gauss, name) for name in operators] + [
        ("mixture", humps, "inpaint"),
        ("mixture", humps, "mri"),
    ]
    return tuple(_known(f"{kind}, {name}", prior, operators[name]) for kind, prior, name in cases)


@cache
def volumes() -> tuple[Known, ...]:
    """The same Gaussian in three dimensions, of 4 x 4 x 4 voxels: for solvers of volumes."""
    side = 4
    B, f = cosines(side), torch.arange(side, dtype=torch.float64)
    spectrum = 1 / (1 + f[:, None, None] ** 2 + f[:, None] ** 2 + f**2)
    mean = torch.full((1, side, side, side), 0.4, dtype=torch.float64)

    def turn(x: Tensor, M: Tensor) -> Tensor:
        return torch.einsum("ia,jb,kc,...abc->...ijk", M, M, M, x)

    prior = GaussianPrior(
        mean,
        0.04 * spectrum / spectrum.mean(),
        analysis=lambda x: turn(x, B.T),
        synthesis=lambda x: turn(x, B),
        sigma_min=0.002,
        sigma_max=20.0,
    )
    inpaint = Mask(prior.space, torch.rand((side, side, side), generator=generator("verify", "volume")) < 0.6)
    return _known("gaussian volume, inpaint", prior, inpaint), _known(
        "gaussian volume, thick slices", prior, thick_slices(prior.space, 2, 2.0, 2.0)
    )


def gaussian() -> GaussianPrior:
    """N(0.4, C) with variances that fall with the square of the spatial frequency, 0.2 per voxel."""
    B = cosines(SIDE)
    f = torch.arange(SIDE, dtype=torch.float64)
    spectrum = 1 / (1 + f[:, None] ** 2 + f**2)
    spectrum *= 0.04 / spectrum.mean()
    rows, columns = (lambda x: B.T @ x @ B), (lambda modes: B @ modes @ B.T)
    mean = torch.full(SPACE.shape, 0.4, dtype=torch.float64)
    return GaussianPrior(mean, spectrum, analysis=rows, synthesis=columns, sigma_min=0.002, sigma_max=20.0)


def mixture() -> MixturePrior:
    """Two humps of equal weight: smooth images around 0.2 left and 0.6 right of the middle, and the reverse."""
    g = gaussian()
    B = cosines(SIDE)
    basis = torch.einsum("ia,jb->ijab", B, B).reshape(SIDE**2, SIDE**2)
    order = g.variance.flatten().argsort(descending=True)[:12]
    step = torch.where(torch.arange(SIDE) < SIDE // 2, 0.2, 0.6).double().expand(SIDE, SIDE)
    means = torch.stack([step.flatten(), (0.8 - step).flatten()])
    bases, variances = basis[:, order].expand(2, -1, -1), 0.25 * g.variance.flatten()[order].expand(2, -1)
    weights = torch.ones(2, dtype=torch.float64)
    return MixturePrior(SPACE, weights, means, bases, variances, 2e-3, sigma_min=0.002, sigma_max=20.0)


def cosines(n: int) -> Tensor:
    """The orthonormal cosine transform: columns are its functions, (n, n)."""
    i = torch.arange(n, dtype=torch.float64)
    B = torch.cos(torch.pi * (i[:, None] + 0.5) * i / n) * (2 / n) ** 0.5
    B[:, 0] /= 2**0.5
    return B


def matrix(A: Callable[[Tensor], Tensor], space: Space = SPACE) -> Tensor:
    """A linear map of these images as a real matrix, (m, n); complex values count as two rows."""
    columns = A(torch.eye(space.reals, dtype=torch.float64).reshape(-1, *space.shape))
    return (torch.view_as_real(columns) if columns.is_complex() else columns).flatten(1).T


def reals(y: Tensor) -> Tensor:
    """Elements of a batch as vectors of real numbers, (B, m)."""
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


def _known(name: str, prior: GaussianPrior | MixturePrior, A: LinearOperator) -> Known:
    clean = _image(prior)
    noise = GaussianNoise(NOISE)
    problem = InverseProblem(A, noise, noise.sample(A(clean), Rng([(0, 0)])))
    weights, means, covariances = _posterior(prior, matrix(A, A.domain), reals(problem.y)[0])
    return Known(name, problem, prior, weights, means, covariances)


def _image(prior: GaussianPrior | MixturePrior) -> Tensor:
    """A draw from the prior, (1, *shape)."""
    if isinstance(prior, GaussianPrior):
        return prior.sample(Rng([(0, 0)]).normal("image", 0, prior.mean[None]))
    root = torch.linalg.cholesky(prior.covariances()[0])
    xi = Rng([(0, 0)]).normal("image", 0, prior.means[:1])[0]
    return (prior.means[0] + root @ xi).reshape(1, *SPACE.shape)


def _posterior(prior: GaussianPrior | MixturePrior, A: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(prior, MixturePrior):
        return prior.posterior(A, y, NOISE)
    C = matrix(lambda x: prior.synthesis(prior.variance * prior.analysis(x)), prior.space)
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + NOISE**2 * torch.eye(len(y)).to(C))
    mean = prior.mean.flatten()
    return torch.ones(1).to(C), (mean + gain @ (y - A @ mean))[None], (C - gain @ A @ C)[None]
