"""From a measurement file's content to volumes: scale, prior, solver, mean and spread, and the facts of the run."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff import config
from invdiff.bridges import Bridge
from invdiff.checkpoint import EVERY, Checkpoint
from invdiff.errors import DivergedError
from invdiff.gathered import Each, Gathered
from invdiff.measurements import Measurement, fingerprint
from invdiff.plan import Memory
from invdiff.planes import Planes
from invdiff.preparation import WHAT_IS_FREE, Options, Prepared, prepare
from invdiff.priors.base import Prior
from invdiff.priors.steered import SteeredPrior
from invdiff.regrid import Choice
from invdiff.solution import Callback, Interrupted, solve_each
from invdiff.solvers.base import Solver
from invdiff.steering import Steering, steered
from invdiff.volumes import Volume
from invdiff.warm import Warm, no_neighbours, solve_chain

WELL_FITTED = (0.5, 2.0)  # chi2 of a sample; the one of an exact sample strays from 1 by less than a tenth


@dataclass(frozen=True)
class Reconstruction:
    """Volumes at the place of the measured one, and what was done.

    Attributes:
        mean: mean over samples; the sample itself when there is one.
        std: standard deviation of what is stored, over samples; None for one sample.
        samples: (N, P, C, H, W) of the unknown: C = 2 for real and imaginary part; N = 0 where `each` took them.
        facts: settings, versions, seeds, prior, residual, chi2, times, memory; JSON-able.
        steered: the prior as it was adapted to this measurement, if it was.
    """

    mean: Volume
    std: Volume | None
    samples: Tensor
    facts: dict[str, Any]
    steered: SteeredPrior | None = None


def reconstruct(
    measurement: Measurement,
    solver: Solver[Any, Any, Any],
    *,
    prior: str | Path | None = None,
    seeds: Sequence[int] = tuple(range(8)),
    device: str = "auto",
    dtype: str = "auto",
    antithetic: bool = True,
    width: int | None = None,
    callback: Callback | None = None,
    steer: Steering | None = None,
    planes: Planes | None = None,
    grid: Choice = "auto",
    warm: Warm | None = None,
    slices: int | None = None,
    window: int | None = None,
    memory: Memory = WHAT_IS_FREE,
    each: Each | None = None,
    checkpoint: Path | None = None,
    every: float = EVERY,
) -> Reconstruction:
    """Solve the measurement's inverse problem for each seed.

    A single posterior sample, the mean of several and a point estimate are different goods: the mean has the least
    expected error, a sample has the texture of a real image. Point estimators ignore all seeds but the first.

    Args:
        measurement: what was measured, and how.
        solver: the method; classical ones need no prior.
        prior: a prior that ships with invdiff or is installed, or a file; by default the acquisition's own. For i2sb
            and cddb, a bridge.
        seeds: one posterior sample each.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: precision of the network: auto (bfloat16 where the hardware has it), float32 or bfloat16.
        antithetic: seeds 2k and 2k + 1 draw opposite noise: each is a posterior sample as before, but their mean is
            worth several times as many independent ones, since the errors of a pair largely cancel.
        width: problems per chunk, by default 8 slices or 1 volume; results are bit-identical for equal width, dtype and
            thread count.
        callback: called with each iterate.
        steer: adapt the prior's network to this measurement first, once for all slices and samples. The solver `scd`
            does it anyway.
        planes: reconstruct whole volumes, with priors of these planes; by default slices are problems of their own, and
            what is measured as a volume has the prior of its slices.
        grid: voxels of the unknown. scan: those of the scan; prior: where these are far from what the prior knows, such
            as it does; auto: the same, but only in whole volumes and only if no voxel is larger than the scan's, so
            that nothing is lost. The output has the voxels of the scan.
        warm: start each frame or slice but the first from the samples of the one before, which saves network calls; a
            sample then depends on its neighbours. Chunks are no wider than a frame or slice has samples.
        slices: of a volume in one network call, by default 8.
        window: side of the windows through which the network sees slices, in voxels; none by default.
        memory: what the run may take. Where width, slices and window are not given and the defaults do not fit, fewer
            slices per call are taken, then bfloat16, then windows.
        each: is handed the number of each sample and the sample, (P, C, H, W), as soon as it is there. Then none is
            kept, and memory does not grow with their number.
        checkpoint: a folder to keep the run in: after a crash the same call goes on from there, to the same bits.
            Remove it once the result is safe.
        every: seconds between two states that are kept.

    Raises:
        ConfigError, CapabilityError, PriorError, DivergedError, OutOfMemoryError.
        Interrupted: Ctrl-C. Its `estimate` is the mean of the complete samples, or else what is known of the first one,
            with air in slices not yet begun.
    """
    ready = prepare(
        measurement,
        solver,
        Options(
            prior=prior,
            seeds=seeds,
            device=device,
            dtype=dtype,
            antithetic=antithetic,
            width=width,
            steer=steer,
            planes=planes,
            grid=grid,
            warm=warm,
            slices=slices,
            window=window,
            memory=memory,
            kept=each is None,
        ),
    )
    began = time.perf_counter()
    chosen, steering = ready.known.model, None
    if ready.steers:
        chosen, steering = steered(chosen, ready.encoded, ready.steers, ready.known.facts)
    adapted = time.perf_counter()
    kept = Checkpoint(checkpoint, _decides(ready), every=every) if checkpoint else None
    found, started = _solved(ready, chosen, callback, ready.gathering(each), kept)
    solved = time.perf_counter()
    mean, std, fit = found.result()
    facts = _facts(ready, chosen, started, fit) | {"steering": steering}
    prepared, planned = ready.seconds
    facts["seconds"] = {"prepare": prepared, "plan": planned, "steer": adapted - began, "solve": solved - adapted}
    return Reconstruction(mean, std, found.samples, facts, chosen if isinstance(chosen, SteeredPrior) else None)


def _solved(
    ready: Prepared, model: Prior | Bridge | None, callback: Callback | None, found: Gathered, kept: Checkpoint | None
) -> tuple[Gathered, dict[str, Any]]:
    """All samples, gathered, and what was done of warm starts."""
    o = ready.options
    how: dict[str, Any] = {"seeds": ready.seeds, "antithetic": o.antithetic, "width": ready.plan.way.width}
    how |= {"callback": callback, "noise": ready.noise, "checkpoint": kept}
    drawn: Iterable[Tensor]
    started: dict[str, Any] = {}
    try:
        if o.warm and ready.chain:
            drawn, started = solve_chain(ready.encoded, model, ready.solver, ready.chain, sigma=o.warm.sigma, **how)
        else:
            drawn = solve_each(ready.encoded, model, ready.solver, **how)
        for x in map(ready.unknown, drawn):  # without a name for the sample of the prior, which would keep it
            found.add(x)
    except Interrupted as e:
        raise Interrupted(e.rows, found.so_far(e, ready.seeds[0], ready.unknown)) from e
    except DivergedError:
        if kept:  # it would again
            kept.remove()
        raise
    return found, started


def _decides(ready: Prepared) -> dict[str, Any]:
    """All that decides about the bits of a run."""
    o, facts = ready.options, ready.known.facts
    return {
        "measurement": fingerprint(ready.measurement),
        "solver": config.dump(ready.solver),
        "prior": facts and {k: v for k, v in facts.items() if k != "file"},
        "planes": asdict(o.planes) if o.planes else None,
        "grid": asdict(ready.known.grid) if ready.known.grid else None,
        "warm": asdict(o.warm) if o.warm else None,
        "steer": asdict(ready.steers) if ready.steers else None,
        "seeds": list(ready.seeds),
        "antithetic": o.antithetic,
        **asdict(ready.plan.way),
        "device": str(ready.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _facts(
    ready: Prepared, model: Prior | Bridge | None, started: dict[str, Any], fit: dict[str, dict[str, float | None]]
) -> dict[str, Any]:
    """For the sidecar."""
    m, o, known, seeds = ready.measurement, ready.options, ready.known, ready.seeds
    one = "sample" if ready.draws else "point estimate"
    warnings = known.warnings + spread_warnings(model, len(seeds)) + no_neighbours(started)
    return {
        "command": "reconstruct",
        "solver": config.dump(ready.solver),
        "gives": one if len(seeds) == 1 else f"mean of {len(seeds)} posterior samples",
        "prior": known.facts,
        "planes": asdict(o.planes) if o.planes else None,
        "grid": asdict(known.grid) if known.grid else None,
        "warm": {"along": o.warm.along} | started if o.warm else None,
        "seeds": list(seeds),
        "antithetic": o.antithetic,
        "acquisition": config.dump(m.acquisition),
        "measurement": m.facts,
        "noise": config.dump(m.noise),
        "intensity_unit": ready.scaling.unit,
        "intensity_offset": ready.scaling.offset + m.acquisition.zero,
        "nfe_per_sample": started.get("nfe_per_sample", ready.solver.nfe) if known.facts else 0,
        "network_calls": getattr(model, "calls", 0),
        "network_batch": ready.plan.way.width,
        "memory": ready.plan.facts(),
        "data_fit": fit,
        "warnings": warnings + warnings_of(fit["first_sample"]["chi2"]),
        "machine": machine(ready.device),
        "versions": versions(),
        "intended_use": "research only",
    }


def warnings_of(chi2: float | None) -> list[str]:
    """What to say of a sample or point estimate whose chi2 is far from 1: a sentence, or nothing."""
    if chi2 is None or WELL_FITTED[0] <= chi2 <= WELL_FITTED[1]:
        return []
    if chi2 > 1:
        return [
            f"the image fits the measurement worse than its noise explains (chi2 = {chi2:.3g}, expected 1): the noise "
            "level may be too low, the prior may not know such scans, or the solver needs more steps"
        ]
    return [
        f"the image follows the noise of the measurement (chi2 = {chi2:.2g}, expected 1): the noise level may be too "
        "high, or the solver trusts the data too much"
    ]


def spread_warnings(model: Prior | Bridge | None, samples: int) -> list[str]:
    """What to say of a spread that is none: of a bridge that is not shown x1, whose samples are no posterior."""
    if not isinstance(model, Bridge) or model.conditional or samples == 1:
        return []
    return [
        "the spread of these samples is no uncertainty: a bridge that is not shown the degraded image does not sample "
        "the posterior; take a prior, or train with --conditional"
    ]


def machine(device: torch.device) -> dict[str, Any]:
    """Device, threads and the largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "device": str(device),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


def versions() -> dict[str, str]:
    """Versions of what decides about the numbers."""
    packages = ("invdiff", "torch", "numpy", "scipy", "scikit-image", "nibabel")
    return {"python": platform.python_version(), **{p: version(p) for p in packages}}
