"""Optimal step sizes (Pei et al., arXiv 2503.21774): the few noise levels whose walk ends nearest to that of many.

A teacher takes Euler steps on N fine levels; a student takes K of these. Dynamic programme over steps k and levels j:

    cost[k, j] = min over i < j that k - 1 steps reach of  mean (x_i + (sigma_j - sigma_i) e_i - X_j)^2

with x_i the student's state there, e_i its noise estimate and X_j the teacher's state. Only levels that k - 1 steps can
reach are followed, so that the cost is that of the walk which the ladder really takes; the published code lets every
level start from pure noise. In the time of a flow, t = sigma / (1 + sigma), the steps are the same numbers and each
cost[k, j] is multiplied by (1 - t_j)^2, whatever i: the same ladder.

Ladders are kept as JSON, keyed by the prior's checksum and the solver they were searched for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import ConfigError
from invdiff.files import write_atomic

Denoise = Callable[[Tensor, float], tuple[Tensor, Tensor]]
FORMAT, VERSION = "invdiff ladder", 1


@dataclass(frozen=True)
class Ladder:
    """K of N levels, and what they cost.

    Attributes:
        indices: of the K + 1 levels in the fine ladder, ascending from 0 to N.
        sigmas: these levels, (K + 1,) float64, descending to 0.
        cost: mean squared distance of the student's end from the teacher's, over all start images.
        even: that of K evenly strided levels, to compare with.
        levels: N.
    """

    indices: tuple[int, ...]
    sigmas: Tensor
    cost: float
    even: float
    levels: int

    @property
    def steps(self) -> int:
        """K."""
        return len(self.indices) - 1


def search(
    denoise: Denoise, sigmas: Tensor, x: Tensor, steps: int, *, callback: Callable[[int], None] | None = None
) -> Ladder:
    """The best `steps` of a fine ladder's levels: `calls` calls of `denoise`, each of all start images at once.

    Args:
        denoise: (state, sigma) -> clean and noise estimate, both (B, *shape), deterministic: the prior's, or a
            solver's. `euler` makes it from one that gives the clean estimate alone.
        sigmas: the fine ladder, (N + 1,), descending to 0.
        x: start images at its first level, (B, *shape). Each has a ladder of its own; the median of each position is
            taken.
        steps: K, 1 to N.
        callback: called with the number of calls so far.

    Raises:
        ConfigError: steps out of range, a ladder that does not descend to 0, or a walk that is not finite.
    """
    check_descent(sigmas, "the fine ladder")
    levels, N = [float(s) for s in sigmas], len(sigmas) - 1
    if not 1 <= steps <= N:
        raise ConfigError(f"a ladder of {N} levels has no {steps} to choose; take 1 to {N} steps, or a finer ladder")
    count = _Counter(denoise, callback)
    teacher = torch.stack(list(walk(count, levels, x)))
    if not bool(torch.isfinite(teacher).all()):
        raise ConfigError("the walk on the fine ladder is not finite; check the solver's settings")
    parents = _programme(count, levels, teacher, steps)
    chosen = parents.median(0).values.tolist()  # positions ascend in each row, so their lower medians do too
    even = [round(k * N / steps) for k in range(steps + 1)]
    cost, cost_even = (_distance(count, [levels[i] for i in path], x, teacher[-1]) for path in (chosen, even))
    return Ladder(tuple(chosen), torch.tensor([levels[i] for i in chosen], dtype=torch.float64), cost, cost_even, N)


def calls(levels: int, steps: int) -> int:
    """What a search takes: the teacher's walk, the programme's stages, and two walks of the student."""
    return levels + 1 + (steps - 1) * (levels - steps + 1) + 2 * steps


def _programme(denoise: Denoise, levels: list[float], teacher: Tensor, steps: int) -> Tensor:
    """Indices of the best ladder of each start image, (B, steps + 1); teacher is (N + 1, B, *shape)."""
    N, B = len(levels) - 1, teacher.shape[1]
    axes = tuple(range(2, teacher.ndim))
    parent = torch.zeros((steps, N + 1, B), dtype=torch.long)
    state = {0: teacher[0]}  # of the levels that so many steps reach
    for k in range(steps):
        last = k == steps - 1
        reach = range(N, N + 1) if last else range(k + 1, N - (steps - k - 1) + 1)  # the rest must still fit below
        cost = torch.full((N + 1, B), torch.inf, dtype=torch.float64)
        found = torch.empty_like(teacher)
        for i, x in state.items():
            x0, e = denoise(x, levels[i])
            js = [j for j in reach if j > i]
            s = torch.tensor([levels[j] for j in js]).to(x).reshape(-1, *[1] * x.ndim)
            candidate = x0 + s * e
            distance = ((candidate - teacher[js]) ** 2).mean(axes).double().cpu()
            better = distance < cost[js]
            cost[js] = torch.where(better, distance, cost[js])
            parent[k, js] = torch.where(better, i, parent[k, js])
            where = better.reshape(*better.shape, *[1] * (x.ndim - 1)).to(x.device)
            found[js] = torch.where(where, candidate, found[js])
        state = {j: found[j] for j in reach}
    path = torch.full((B, steps + 1), N)
    for k in range(steps, 0, -1):
        path[:, k - 1] = parent[k - 1].gather(0, path[:, k][None])[0]
    return path


def walk(denoise: Denoise, levels: list[float], x: Tensor) -> list[Tensor]:
    """Euler steps down a ladder: the states at all its levels, (B, *shape) each, the start first."""
    states = [x]
    for s0, s1 in pairwise(levels):
        x0, e = denoise(x, s0)
        x = x0 + s1 * e
        states.append(x)
    return states


def euler(denoise: Callable[[Tensor, Tensor], Tensor]) -> Denoise:
    """Of a denoiser of (B, *shape) and (B,), such as a prior's: its clean estimate, and the noise that it leaves."""

    def both(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        x0 = denoise(x, x.new_full((len(x),), sigma))
        return x0, (x - x0) / sigma

    return both


def _distance(denoise: Denoise, levels: list[float], x: Tensor, end: Tensor) -> float:
    return float(((walk(denoise, levels, x)[-1] - end) ** 2).mean())


class _Counter:
    def __init__(self, denoise: Denoise, callback: Callable[[int], None] | None) -> None:
        self.denoise, self.callback, self.calls = denoise, callback, 0

    def __call__(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.callback:
            self.callback(self.calls)
        return self.denoise(x, sigma)


def save(path: Path, ladder: Ladder, *, prior_sha256: str, solver: str, settings: Mapping[str, Any]) -> None:
    """Write a ladder as JSON, atomically.

    Args:
        path: the file.
        ladder: what `search` found.
        prior_sha256: checksum of the prior's file.
        solver: its name.
        settings: of the solver.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "prior_sha256": prior_sha256,
        "solver": solver,
        "settings": dict(settings),
        "N": ladder.levels,
        "K": ladder.steps,
        "indices": ladder.indices,
        "sigmas": ladder.sigmas.tolist(),
        "cost": ladder.cost,
        "cost_of_even_levels": ladder.even,
    }

    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps(content, indent=2) + "\n")

    write_atomic(path, write)


def load_ladder(path: str | Path, steps: int, *, prior_sha256: str | None = None, solver: str | None = None) -> Tensor:
    """The ladder of `steps` levels in a file of `save`, (steps + 1,) float64.

    Args:
        path: the file; only its `sigmas` are needed.
        steps: how many levels the solver takes.
        prior_sha256, solver: refuse a ladder that was searched for others, where they are given.

    Raises:
        ConfigError: no such file, not a ladder, or one of another number of levels, prior or solver.
    """
    try:
        content = json.loads(Path(path).read_text())
        sigmas = torch.tensor(content["sigmas"], dtype=torch.float64)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{path} is not a ladder: {e}; write one with invdiff tune --ladder") from e
    check_descent(sigmas, str(path))
    if len(sigmas) != steps + 1:
        raise ConfigError(f"{path} holds {len(sigmas) - 1} levels, the solver takes {steps}; --steps {len(sigmas) - 1}")
    for key, want, what in (("prior_sha256", prior_sha256, "another prior"), ("solver", solver, "the solver")):
        if want is not None and content.get(key, want) != want:
            which = f"{what} {content[key]}" if key == "solver" else f"{what} (checksum differs)"
            raise ConfigError(f"{path} was searched for {which}; search again with invdiff tune --ladder")
    return sigmas


def check_descent(sigmas: Tensor, name: str, help_: str = "") -> None:
    """Refuse what is no ladder: ConfigError, with what helps."""
    if sigmas.ndim != 1 or len(sigmas) < 2 or sigmas[-1] != 0 or bool((sigmas.diff() >= 0).any()):
        raise ConfigError(f"{name}: a ladder descends and ends in 0{help_}")
    if not bool(torch.isfinite(sigmas).all()):
        raise ConfigError(f"{name}: a ladder holds finite levels")
