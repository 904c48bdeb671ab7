"""A run before the run: the real solver on the real problem, a few levels of it, with networks that are none.

A network is called once, really, on one image of each size that it meets; memory grows with the number of images. In
the rehearsal its place is taken by one that counts as many bytes as it would take, activations that wait for a gradient
included. All else is the code that will run: operator, solver, what ties slices and windows together.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from invdiff.bridges import Bridge
from invdiff.memory import Tracker, Watch, held, trim
from invdiff.networks import Network
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rng import Rng
from invdiff.solvers.base import Iterate, Solver

Model = TypeVar("Model", bound=Prior | Bridge | None)
S = TypeVar("S", bound=Solver[Any, Any, Any])
LEVELS = 2  # the second is like all others: what solvers keep of the level before is there


def clock(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class Call:
    """A kind of network call: the network, images (B, C, H, W) of one dtype, with a gradient or without."""

    net: Network = field(repr=False)
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    gradient: bool = False

    def run(self) -> tuple[float, float]:
        """Call the network really, and take the gradient where that is asked for; seconds of the two."""
        x = torch.zeros(self.shape, dtype=self.dtype, device=self.device).contiguous(memory_format=torch.channels_last)
        label = torch.zeros(len(x), device=self.device)
        began = clock(self.device)
        with torch.set_grad_enabled(self.gradient):
            out = self.net(x.requires_grad_(self.gradient), label)
            called = clock(self.device)
            if self.gradient:
                torch.autograd.grad(out, x, torch.ones_like(out))
        return called - began, clock(self.device) - called


@dataclass(frozen=True)
class Bytes:
    """Of one call, with its gradient where that is asked for: the most it takes, and what waits for the gradient."""

    most: int
    kept: int = 0


class Cast:
    """Stand-ins for networks, what each call of theirs would take, and how often they were called, there and back."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.calls: Counter[Call] = Counter()
        self.backs: Counter[Call] = Counter()
        self.aside = 0.0  # seconds of the real calls
        self._known: dict[Call, Bytes] = {}

    def instead(self, model: Model) -> Model:
        """The same prior or bridge, with stand-ins for all its networks; it counts its calls by itself."""
        parts = model.modules() if isinstance(model, torch.nn.Module) else ()
        nets = {id(m): StandIn(m, self) for m in parts if isinstance(m, Network)}
        return deepcopy(model, dict(nets))

    def bytes_of(self, call: Call) -> Bytes:
        """What a call takes: as much for each image as for the one that is really shown to the network."""
        rows, one = call.shape[0], replace(call, shape=(1, *call.shape[1:]))
        if one not in self._known:
            began = time.perf_counter()
            with saved_tensors_hooks(_itself, _itself):  # checkpoints of the caller are none of the call's business
                self._known[one] = self._measured(one)
            self.aside += time.perf_counter() - began
        b = self._known[one]
        return Bytes(rows * b.most, rows * b.kept)

    def _measured(self, call: Call) -> Bytes:
        _, most = self.tracker.within(call.run)
        if not call.gradient:
            return Bytes(most)
        x = torch.zeros(call.shape, dtype=call.dtype, device=call.device).requires_grad_()
        before = self.tracker.live
        with torch.enable_grad():
            out = call.net(x, torch.zeros(1, device=call.device))
        kept = self.tracker.live - before
        del out
        return Bytes(most, kept)

    @property
    def network(self) -> int:
        """Most bytes of a single call so far."""
        return max((self.bytes_of(call).most for call in self.calls), default=0)


def _itself(t: Tensor) -> Tensor:
    return t


class StandIn(Network):
    """In the place of a network: an answer without sense, in the memory that it would take."""

    def __init__(self, net: Network, cast: Cast) -> None:
        super().__init__()
        self.config, self.multiple_of = net.config, net.multiple_of
        self.__dict__.update(net_=net, cast=cast)  # no sub-module: its weights are not copied

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """(B, C, H, W) -> a tenth of every other column: a multiple of x would spare some solvers their work."""
        del label
        cast: Cast = self.__dict__["cast"]
        gradient = torch.is_grad_enabled() and x.requires_grad
        call = Call(self.__dict__["net_"], tuple(x.shape), x.dtype, x.device, gradient)
        with torch.no_grad():
            size = cast.bytes_of(call)
        cast.calls[call] += 1
        if gradient:
            return _Waiting.apply(x, cast, call, size)  # type: ignore[no-untyped-call]
        cast.tracker.charge(size.most)
        return _answer(x)


class _Waiting(torch.autograd.Function):
    """The same, with its gradient; between the two, activations wait, unless they are made again (checkpoints)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cast: Cast, call: Call, size: Bytes) -> Tensor:  # noqa: ANN401 - torch's context
        ctx.save_for_backward(cast.tracker.charge(size.kept))
        ctx.cast, ctx.call, ctx.rest = cast, call, size.most - size.kept
        return _answer(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        waiting = ctx.saved_tensors
        ctx.cast.backs[ctx.call] += 1
        ctx.cast.tracker.charge(ctx.rest)
        del waiting
        return _answer(gradients[0]), None, None, None


def _answer(x: Tensor) -> Tensor:
    out = 0.1 * x
    out[..., ::2] = 0
    return out


@dataclass(frozen=True)
class Rehearsal:
    """What a chunk of a run takes.

    Attributes:
        together: most bytes of solver, operator and networks at once.
        alone: most bytes of solver and operator.
        unseen: bytes of theirs that the tracker does not see.
        network: most bytes of a single network call, as the tracker sees them.
        calls, backs: network calls per iterate, and gradients taken, by kind.
        seconds: of solver and operator per iterate.
    """

    together: int
    alone: int
    unseen: int
    network: int
    calls: dict[Call, float]
    backs: dict[Call, float]
    seconds: float


def rehearse(
    problem: InverseProblem[Any, Any],
    model: Prior | Bridge | None,
    solver: Solver[Any, Any, Any],
    *,
    width: int,
    levels: int = LEVELS,
    noise: Callable[..., Rng] = Rng,
    limit: float = float("inf"),
) -> Rehearsal:
    """The first levels of one chunk.

    Args:
        problem: all of it, in the units of the prior.
        model: a prior, a bridge, or None.
        solver: the method; give `quick(solver)` where time does not matter.
        width: rows per chunk.
        levels: how many iterates, at most.
        noise: as for `solve`.
        limit: bytes above which the rehearsal ends.

    Raises:
        OutOfMemoryError: more than `limit`.
    """
    width = solver.group * max(1, width // solver.group)
    P = len(problem.y)
    chunk = problem.rows([i % P for i in range(width)])
    rng = noise([(i // P, i % P) for i in range(width)])
    device = problem.y.device
    trim()
    with torch.no_grad(), Watch(device) as watch, Tracker(limit, device.type) as tracker:
        cast = Cast(tracker)
        stand_in = cast.instead(model)
        start = Iterate.before(solver.start(chunk, stand_in, rng))
        times = [(clock(device), cast.aside)]
        for _, it in zip(range(levels), solver.iterate(chunk, stand_in, rng, start), strict=False):
            start = it  # as in a run, the one before is let go
            times.append((clock(device), cast.aside))
        network = cast.network
        del it, start, chunk
    (before, aside), (after, aside_too) = times[-2:]
    trim()
    unseen = max(0, watch.peak - held(device) - tracker.own)  # workspaces of others, and gaps between tensors
    calls, backs = ({call: n / (len(times) - 1) for call, n in c.items()} for c in (cast.calls, cast.backs))
    seconds = after - before - aside_too + aside
    return Rehearsal(tracker.peak, tracker.own, unseen, network, calls, backs, seconds)


def quick(solver: S) -> S:
    """The same solver with at most two iterations of any kind inside a level: they take no more memory than many."""
    counts = {f.name: getattr(solver, f.name) for f in fields(solver) if f.name.endswith("iterations")}
    return replace(solver, **{name: min(n, 2) for name, n in counts.items()})
