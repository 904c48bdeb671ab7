"""How to call the network so that a reconstruction fits: what its rehearsal takes, way by way.

    peak = the largest of   process + network call + what solver and operator hold meanwhile
                            process + solver and operator
                            process + what the result is made of

The process is what is resident after the rehearsal, tensors are counted (`invdiff.rehearsal`). What the allocator keeps
of freed tensors adds half to the bytes of a network call; where that could matter, calls are made at full width, and
the process is looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges import Bridge
from invdiff.errors import OutOfMemoryError
from invdiff.learned import Learned
from invdiff.memory import GIB, Tracker, Watch, free, held, ran_out, trim
from invdiff.networks import Network
from invdiff.plan import RESERVE, Memory, Plan, Stage, Way, told
from invdiff.priors.base import Prior
from invdiff.problem import InverseProblem
from invdiff.rehearsal import LEVELS, Call, Cast, Rehearsal, quick, rehearse
from invdiff.rng import Rng
from invdiff.solvers.base import Solver
from invdiff.steering import Steering

WINDOWS = (256, 128, 64)
KEPT = 0.6  # of a network call's bytes: what glibc still holds when they are freed, measured 0.3 to 1
SURE = 0.5  # of what there is: a run that takes less is not measured further


@dataclass(frozen=True)
class Job:
    """A run that is to be planned.

    Attributes:
        problem: all of it, in the units of the prior.
        solver: the method.
        samples: how many.
        bind: the prior or bridge for a way of calling it.
        finish: makes the result of a sample, (P, *shape); run on zeros for its memory.
        chunks: how often the solver runs, by the rows of a chunk.
        turns: iterates until every prior was called.
        noise: as of `solve`.
        steering: how the prior is adapted before.
        whole: whether slices are one volume by choice, not by how they were measured.
        kept: whether all samples stay in memory.
        began: when the preparation did.
    """

    problem: InverseProblem[Any, Any]
    solver: Solver[Any, Any, Any]
    samples: int
    bind: Callable[[Way], Learned]
    finish: Callable[[Tensor], object]
    chunks: Callable[[int], int]
    turns: int = 1
    noise: Callable[..., Rng] = Rng
    steering: Steering | None = None
    whole: bool = False
    kept: bool = True
    began: float = field(default_factory=time.perf_counter)


def fitted(job: Job, ways: Iterable[Way], first: Learned, memory: Memory) -> tuple[Plan, Learned]:
    """The first way that fits, and the prior or bridge bound to it.

    Raises:
        OutOfMemoryError: none does; says what was predicted, what there is, and what to change.
    """
    device = job.problem.y.device
    before = held(device)
    budget = round(memory.gb * GIB) if memory.gb is not None else before + free(device)
    known, plans = first, list[Plan]()
    for way in ways:
        known = job.bind(way) if plans else first
        plans.append(_plan(job, way, known, budget, memory))
        if plans[-1].fits:
            if memory.told:
                memory.told(plans[-1])
            return plans[-1], known
    raise OutOfMemoryError(_refusal(job, plans, before))


def _plan(job: Job, way: Way, known: Learned, budget: int, memory: Memory) -> Plan:
    """What one way will take."""
    ready, device = time.perf_counter() - job.began, job.problem.y.device
    chunks = job.chunks(job.solver.group * max(1, way.width // job.solver.group))
    plan = Plan(way, None, budget, memory.gb is not None, chunks=chunks)
    solver, room = job.solver if memory.timed else quick(job.solver), budget - held(device)
    how: dict[str, Any] = {"width": way.width, "levels": max(LEVELS, job.turns), "noise": job.noise}
    try:
        r = rehearse(job.problem, known.model, solver, limit=room, **how)
        result, writing = _result(job, room)
        steering = _steering(job, r, room)
    except OutOfMemoryError:
        return plan
    except (MemoryError, RuntimeError) as e:
        if ran_out(e):
            return replace(plan, ended=True)
        raise
    finally:
        trim()
    waiting = _waiting(job)
    base = held(device)

    def most(calling: float, called: float) -> int:
        """Of the process, which holds `calling` during a network call and `called` after it."""
        solving = max(calling + r.together - r.network, called + r.alone) + r.unseen + waiting
        return round(max(solving, calling + result, base + (1 + KEPT) * steering))  # many calls leave what one takes

    peak, seconds = most(base + (1 + KEPT) * r.network, base + KEPT * r.network), dict[Call, tuple[float, float]]()
    if r.calls and RESERVE * peak <= budget and (memory.timed or peak > SURE * budget):
        with Watch(device) as watch:
            seconds = {call: (call.run(), call.run())[1] for call in r.calls}  # the first compiles
        peak = most(watch.peak, held(device))
    timed = memory.timed and (bool(seconds) or not r.calls)
    times = _seconds(job, r, seconds, chunks) if timed else (None, None, None)
    stages = [
        Stage("process, prepared", base, ready if timed else None),
        Stage("network", round((1 + KEPT) * r.network) if not seconds else watch.peak - base, times[0]),
        Stage("solver and operator", r.alone + r.unseen + waiting, times[1]),
        *([Stage("steering", round((1 + KEPT) * steering), times[2])] if job.steering else []),
        Stage("result", result, writing if timed else None),
    ]
    calls = round(sum(r.calls.values()) * job.solver.length * chunks)
    if known.facts:
        plan = replace(plan, way=replace(way, dtype=known.facts["dtype"]))
    return replace(plan, peak=peak, measured=bool(seconds), calls=calls, stages=stages)


def _sample(job: Job) -> int:
    """Bytes of a sample."""
    domain = job.problem.operator.domain
    return len(job.problem.y) * math.prod(domain.shape) * domain.dtype.itemsize


def _waiting(job: Job) -> int:
    """Bytes of what is there while a chunk is solved: rows of the sample in progress, mean and spread, samples kept."""
    group = job.solver.group if len(job.problem.y) > 1 else 0
    moments = 3 if job.samples > 1 else 0
    return (group + moments + (job.samples - 1 if job.kept else 0)) * _sample(job)


def _result(job: Job, limit: float) -> tuple[int, float]:
    """Bytes of a sample and of all that is made of it, and seconds."""
    domain, began = job.problem.operator.domain, time.perf_counter()
    others = (job.samples - 1) * _sample(job) if job.kept else 0
    with torch.no_grad(), Tracker(limit, job.problem.y.device.type) as tracker:
        waiting = tracker.charge(others)
        shape = (len(job.problem.y), *domain.shape)
        job.finish(torch.zeros(shape, dtype=domain.dtype, device=job.problem.y.device))
        del waiting
    return tracker.peak, time.perf_counter() - began


def _steering(job: Job, r: Rehearsal, limit: float) -> int:
    """Bytes of the network and its gradient on the slices that it is adapted on."""
    if job.steering is None or job.steering.weights or not r.calls:
        return 0
    with Tracker(limit) as tracker:
        return Cast(tracker).bytes_of(_adapting(job.steering, r)).most


def _adapting(how: Steering, r: Rehearsal) -> Call:
    call = next(iter(r.calls))
    return replace(call, shape=(how.slices, *call.shape[1:]), gradient=True)


def _seconds(
    job: Job, r: Rehearsal, seconds: dict[Call, tuple[float, float]], chunks: int
) -> tuple[float, float, float]:
    """Of the network, of solver and operator, and at most of steering."""
    a_level = sum(n * seconds[call][0] for call, n in r.calls.items())
    a_level += sum(n * seconds[call][1] for call, n in r.backs.items())
    levels, how = job.solver.length * chunks, job.steering
    if how is None or how.weights or not r.calls:
        return levels * a_level, levels * r.seconds, 0.0
    there, back = _adapting(how, r).run()
    return levels * a_level, levels * r.seconds, how.levels * (2 * there + how.inner * (there + back))


def narrower(first: Way, model: Prior | Bridge | None, *, volumes: bool, windows: bool) -> Iterator[Way]:
    """The first way, then what takes less and less memory: fewer slices per call, bfloat16, windows.

    Args:
        first: the default.
        model: what it calls.
        volumes: whether an unknown is a volume.
        windows: whether windows may be taken.
    """
    yield first
    way, name = first, "slices" if volumes else "width"
    nets = [m for m in model.modules() if isinstance(m, Network)] if model is not None else []
    if volumes and not nets:
        return
    while getattr(way, name) > 1:
        way = replace(way, **{name: getattr(way, name) // 2})
        yield way
    if first.dtype == "auto" and any(p.dtype == torch.float32 for net in nets for p in net.parameters()):
        way = replace(way, dtype="bfloat16")
        yield way
    for side in WINDOWS if windows and nets else ():
        if isinstance(model, Prior) and side < max(model.space.shape[1:]) and side % nets[0].multiple_of == 0:
            yield replace(way, window=side)


def _refusal(job: Job, plans: list[Plan], before: int) -> str:
    last = plans[-1]
    need = f"more than {last.budget / GIB:.2f} GiB" if last.peak is None else f"about {last.peak / GIB:.2f} GiB"
    need = "more than there was" if last.ended else need
    volumes = len(job.problem.operator.domain.shape) == 4
    there = f"{'--mem-gb allows' if last.asked else 'there are'} {last.budget / GIB:.2f}"
    network = f" with {told(last.way, volumes=volumes)}" if job.solver.requirements()[2] is not type(None) else ""
    hints = [
        "more memory",
        *(["a run file without width, slices and window, so that fewer are chosen"] if len(plans) == 1 else []),
        *(["slices by themselves, without --planes"] if job.whole else []),
        *(["fewer --samples"] if job.samples > 1 and job.kept else []),
        "a smaller volume",
    ]
    return (
        f"{type(job.solver).__name__} does not fit in memory{network}: it takes {need}, {before / GIB:.2f} held "
        f"already, and a tenth as a reserve; {there}. Take {', '.join(hints[:-1])} or {hints[-1]}"
    )
