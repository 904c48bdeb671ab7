"""Adapt a prior to a scan that it was not trained for, by the measurement alone (Barbano et al., TMI 2025).

One trajectory of `SCD` walks down the noise levels. At each level the low-rank changes of the network take a few Adam
steps towards data consistency of the clean estimate, one optimiser for all levels; where chi2 has come down to 1 they
take none, so that noise is never fitted. Then the weights are frozen, and serve all samples and slices alike.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_doc import Doc
from annotated_types import Ge, Gt
from torch import Tensor

from invdiff.bridges import Bridge
from invdiff.errors import ConfigError, DivergedError
from invdiff.files import sha256
from invdiff.priors.base import Prior
from invdiff.priors.network import NetworkPrior
from invdiff.priors.steered import SteeredPrior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng, generator
from invdiff.solution import check_requirements
from invdiff.solvers.base import Iterate, at
from invdiff.solvers.guided import Problem
from invdiff.solvers.samplers import Estimate, ddim
from invdiff.solvers.scd import SCD


@dataclass(frozen=True, kw_only=True)
class Steering:
    """How a prior is adapted; costs the same for any number of slices."""

    rank: Annotated[int, Gt(0), Doc("r of the low-rank changes.")] = 4
    levels: Annotated[int, Gt(0), Doc("Noise levels of the trajectory.")] = 20
    below: Annotated[float, Gt(0), Doc("Noise level from which on weights are adapted, image on [0, 1].")] = 0.5
    inner: Annotated[int, Ge(0), Doc("K, most Adam steps per level.")] = 10
    learning_rate: Annotated[float, Gt(0), Doc("Of Adam.")] = 3e-4
    gamma: Annotated[float, Gt(0), Doc("Weight of the data in the estimate that is compared, as in dds.")] = 0.3
    cg_iterations: Annotated[int, Gt(0), Doc("M, conjugate gradient steps of it; gradients go through them.")] = 3
    tv: Annotated[float, Ge(0), Doc("Weight of the mean difference of neighbours, beside chi2.")] = 100.0
    chi2: Annotated[float, Gt(0), Doc("A level is done where ||y - A x||^2 / (m s^2) is this.")] = 1.0
    slices: Annotated[int, Gt(0), Doc("Slices that the weights are adapted on, drawn at random.")] = 4
    seed: Annotated[int, Doc("Of slices, noise and first weights.")] = 0
    weights: Annotated[str | None, Doc("Adapted weights of an earlier run (--save-steer), used as they are.")] = None


def steered(
    prior: Prior | Bridge | None, problem: InverseProblem[Any, Any], how: Steering, facts: dict[str, Any] | None
) -> tuple[SteeredPrior, dict[str, Any]]:
    """A prior adapted to a measurement, or with the weights of an earlier run; and what was done.

    Args:
        prior: as it was trained.
        problem: all slices, in its units; linear, with Gaussian noise.
        how: settings.
        facts: of the prior, for its checksum.

    Raises:
        ConfigError: nothing to steer, a rank above that of a layer, or as `steer`.
        CapabilityError: another kind of operator or noise.
        PriorError: a network without blocks to adapt; weights of another prior.
    """
    if not isinstance(prior, NetworkPrior) or facts is None:
        raise ConfigError("only a prior of slices can be steered; leave --steer, or --planes, or choose another solver")
    done = {"settings": {k: v for k, v in asdict(how).items() if k != "weights"}}
    if how.weights is not None:
        path = Path(how.weights)
        return SteeredPrior.load(path, prior, facts["sha256"]), {"weights": path.name, "weights_sha256": sha256(path)}
    check_requirements(SCD(), problem, prior)
    adapted = SteeredPrior(prior, how.rank, how.seed)
    done |= steer(adapted, problem, how)
    parameters = sum(p.numel() for p in adapted.changes.parameters())
    share = parameters / sum(p.numel() for p in prior.net.parameters())
    return adapted, done | {"parameters": parameters, "share_of_network": round(share, 4)}


def steer(prior: SteeredPrior, problem: Problem, how: Steering) -> dict[str, Any]:
    """Adapt the changes of `prior` to the measurement, from what they are now.

    Args:
        prior: its `changes` are written, nothing else.
        problem: all slices, in the units of the prior.
        how: settings.

    Returns:
        The slices, the Adam steps, the network calls of each kind, and chi2 at the first and the last step.

    Raises:
        ConfigError: noise of zero: there is no level at which to stop.
        DivergedError: the loss is not finite.
    """
    if not problem.noise.sigma:
        raise ConfigError("steering stops at the noise level and needs noise > 0; give a small one")
    draw = torch.randperm(len(problem.y), generator=generator(how.seed, "slices"))
    slices = sorted(draw[: how.slices].tolist())
    part, narrow = problem.rows(slices), prior.of_width(len(slices))
    solver = SCD(steps=how.levels, gamma=how.gamma, cg_iterations=how.cg_iterations, sampler="ddim")
    descent = _Descent(part, narrow, solver, how)

    def estimate(x: Tensor, step: int, sigma: float, sigma_next: float) -> Estimate:
        descent.at_level(x, sigma)
        return solver.estimate(part, narrow, x, sigma, sigma_next)

    with torch.no_grad():
        rng = Rng([(how.seed, p) for p in slices])
        start = Iterate.before(solver.start(part, narrow, rng))
        for _ in ddim(estimate, solver.levels(narrow, start), start, rng, tau=solver.share):
            pass
    chi2 = descent.chi2
    return {"slices": slices, "adam_steps": descent.steps, "network_calls": narrow.calls} | (
        {"chi2_first": chi2[0], "chi2_last": chi2[-1]} if chi2 else {}
    )


class _Descent:
    """Adam on the changes, one state for all levels."""

    def __init__(self, problem: Problem, prior: SteeredPrior, solver: SCD, how: Steering) -> None:
        self.problem, self.prior, self.solver, self.how = problem, prior, solver, how
        self.optimiser = torch.optim.Adam(prior.changes.parameters(), how.learning_rate)
        self.chi2: list[float] = []
        self.steps = 0

    def at_level(self, x: Tensor, sigma: float) -> None:
        """At most K steps, fewer where chi2 is reached."""
        for _ in range(self.how.inner if sigma <= self.how.below else 0):
            with torch.enable_grad():
                x0 = self.solver.towards_data(self.problem, self.prior.denoise(x, at(sigma, x)))
                chi2 = self._chi2(x0)
                loss = chi2 + self.how.tv * variation(x0)
            self.chi2.append(chi2.item())
            if not math.isfinite(self.chi2[-1]):
                raise DivergedError(f"steering, sigma {sigma:.3g}: not finite; lower steer.learning_rate")
            if self.chi2[-1] <= self.how.chi2:
                return
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.steps += 1

    def _chi2(self, x: Tensor) -> Tensor:
        m = self.problem.operator.range.reals * len(x)
        return self.problem.residual_norm2(x).sum() / (m * self.problem.noise.sigma**2)


def variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours along each axis of space."""
    return sum((x.diff(dim=axis).abs().mean() for axis in range(2, x.ndim)), start=x.new_zeros(()))
