"""RED-diff (Mardani et al., ICLR 2024): the image mu that the diffusion prior and the data agree on, by gradient steps.

    min_mu  ||y - A mu||^2 / (2 s^2) + lam sum_t w_t <e_hat(mu + sigma_t e) - e, mu>     (e_hat - e not differentiated)

One level and one draw e a step, from high to low noise. For a Gaussian prior the mean of e_hat - e is
sigma (C + sigma^2)^-1 (mu - m), so the end is a point estimate with the prior's precision C^-1 replaced by
lam times the mean of w sigma (C + sigma^2)^-1: flatter. Different seeds differ by the noise of the optimiser, not as
posterior samples do.

noise = inverted carries the noise estimate of the level before in the place of a fresh e. With plain gradient steps of
rate 1, linear weights and no data this is DDIM: score distillation is DDIM whose noise is drawn anew each time.

parity: the code takes means, ||y - A mu||^2 / (2 m) and lam w <.,.> / n, in which the noise of y has no part; safe and
paper take the sums above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.linalg import rows
from invdiff.noise.gaussian import GaussianNoise
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.solvers.base import DiffusionSolver, Iterate
from invdiff.solvers.guided import Problem

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda sigma: sigma,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "log": torch.log1p,
    "capped": lambda sigma: sigma.clamp_max(1.0),
    "constant": torch.ones_like,
}


@dataclass(frozen=True, kw_only=True)
class REDdiff(DiffusionSolver[LinearOperator, GaussianNoise]):
    """Variational regularisation by denoising diffusion: linear operators, no gradient through the network."""

    gives: ClassVar[Literal["sample", "point estimate"]] = "point estimate"
    paper: ClassVar[str] = "Mardani et al., A variational perspective on solving inverse problems with diffusion models, ICLR 2024"  # noqa: E501  # fmt: skip
    advice: ClassVar[str] = "lower lr"

    steps: Annotated[int, Gt(0), Doc("Number of gradient steps, a network call each.")] = 100
    lam: Annotated[float, Ge(0), Doc("Weight of the prior, image scaled to [0, 1]; the paper's is 0.25.")] = 100.0
    weight: Annotated[
        Literal["linear", "sqrt", "square", "log", "capped", "constant"],
        Doc("w of sigma, which is the root of 1 / SNR; linear as published."),
    ] = "linear"
    optimizer: Annotated[Literal["adam", "sgd"], Doc("Adam with betas 0.9 and 0.99, or plain gradient steps.")] = "adam"
    lr: Annotated[float, Gt(0), Doc("Step: of Adam, image scaled to [0, 1]; of sgd, in units of 1 / curvature.")] = 0.02
    noise: Annotated[Literal["fresh", "inverted"], Doc("A new draw each step, or the noise found before.")] = "fresh"
    order: Annotated[Literal["descending", "random"], Doc("How the levels are visited.")] = "descending"

    def start(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """The direct reconstruction."""
        del prior, rng
        return problem.operator.direct(problem.y)

    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Iterate) -> Iterator[Iterate]:
        """Yield one iterate per gradient step."""
        if self.parity != "code" and not problem.noise.sigma:
            raise ConfigError(f"{type(self).__name__} divides by the noise; give a small one, or --set parity=code")
        A, sigmas = problem.operator, self.sigmas(prior)[:-1].to(start.x)
        v, lam = self._scales(problem)
        curvature = v * A.norm2 + lam * float((WEIGHTS[self.weight](sigmas) / sigmas).max())
        mu = start.x
        e, m1, m2 = start.memory or (rng.normal("noise", 0, mu), torch.zeros_like(mu), torch.zeros_like(mu))
        for step in range(start.step + 1, self.steps):
            sigma = self._visit(sigmas, step, rng, mu)
            if self.noise == "fresh":
                e = rng.normal("noise", step, mu)
            z = mu + rows(sigma, mu) * e
            x0 = prior.at(step, rng).denoise(z, sigma)
            e_hat = (z - x0) / rows(sigma, mu)
            pull = e_hat - e + self._repulsion(mu, sigma)
            g = v * (A.normal(mu) - A.adjoint(problem.y)) + lam * rows(WEIGHTS[self.weight](sigma), mu) * pull
            if self.optimizer == "sgd":
                mu = mu - self.lr / curvature * g
            else:
                mu, m1, m2 = _adam(mu, g, m1, m2, self.lr, step)
            e = e_hat
            yield Iterate(step, float(sigma[0]), mu, x0, (e, m1, m2))

    def _scales(self, problem: Problem) -> tuple[float, float]:
        """What multiplies the two terms: 1 / s^2 and lam of the sums, or 1 / m and lam / n of the means."""
        if self.parity == "code":
            return 1 / problem.operator.range.reals, self.lam / problem.operator.domain.reals
        return 1 / problem.noise.sigma**2, self.lam

    def _visit(self, sigmas: Tensor, step: int, rng: Rng, x: Tensor) -> Tensor:
        """The level of each row at one step, (B,)."""
        if self.order == "descending":
            return sigmas[step].expand(len(x))
        u = torch.special.ndtr(rng.normal("level", step, x.new_empty(len(x), 1)))[:, 0]
        return sigmas[(u * len(sigmas)).long().clamp_max(len(sigmas) - 1)]

    def _repulsion(self, mu: Tensor, sigma: Tensor) -> Tensor | float:
        """Nothing: a run is alone."""
        del mu, sigma
        return 0.0


def _adam(x: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam (Kingma and Ba, ICLR 2015), element by element."""
    b1, b2 = 0.9, 0.99
    m, v = m.lerp(g, 1 - b1), v.lerp(g**2, 1 - b2)
    ahead = (m / (1 - b1 ** (step + 1))) / ((v / (1 - b2 ** (step + 1))).sqrt() + 1e-8)
    return x - lr * ahead, m, v
