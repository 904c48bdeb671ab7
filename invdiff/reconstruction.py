"""From a measurement file's content to volumes: scale, prior, solver, mean and spread, and the facts of the run."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff import config
from invdiff.bridges import Bridge
from invdiff.checkpoint import EVERY, Checkpoint
from invdiff.errors import ConfigError, DivergedError
from invdiff.gathered import Each, Gathered, data_fit
from invdiff.learned import OWN, Planes, learned
from invdiff.measurements import Measurement, fingerprint
from invdiff.priors.base import Prior
from invdiff.priors.steered import SteeredPrior
from invdiff.problem import InverseProblem
from invdiff.regrid import Choice, home, onto
from invdiff.rng import Rng, SharedRng
from invdiff.solve import WIDTH, Callback, Interrupted, check_requirements, solve_each
from invdiff.solvers.base import DiffusionSolver, Solver
from invdiff.solvers.scd import SCD
from invdiff.steering import Steering, steered
from invdiff.stepsizes import load_ladder
from invdiff.volumes import Volume
from invdiff.warm import Warm, chain_of, check_solver, no_neighbours, solve_chain, width_of

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
    each: Each | None = None,
    checkpoint: Path | None = None,
    every: float = EVERY,
    warm: Warm | None = None,
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
        each: is handed the number of each sample and the sample, (P, C, H, W), as soon as it is there. Then none is
            kept, and memory does not grow with their number.
        checkpoint: a folder to keep the run in: after a crash the same call goes on from there, to the same bits.
            Remove it once the result is safe.
        every: seconds between two states that are kept.
        warm: start each frame or slice but the first from the samples of the one before, which saves network calls; a
            sample then depends on its neighbours. Chunks are no wider than a frame or slice has samples.

    Raises:
        ConfigError, CapabilityError, PriorError, DivergedError, OutOfMemoryError.
        Interrupted: Ctrl-C. Its `estimate` is the mean of the complete samples, or else what is known of the first one,
            with air in slices not yet begun.
    """
    began = time.perf_counter()
    measurement = measurement.as_volumes() if planes else measurement
    chain = chain_of(measurement, warm) if warm else None
    width = width or (width_of(chain, len(seeds)) if chain else default_width(measurement))
    place = pick_device(device)
    problem = _to(measurement.problem(), place)
    acquisition = measurement.acquisition
    known = learned(solver, measurement, prior, dtype=dtype, device=place, width=width, planes=planes or OWN, grid=grid)
    chosen, prior_facts = known.model, known.facts
    draws = solver.draws and not (isinstance(chosen, Bridge) and not chosen.process.stochastic)
    seeds = tuple(seeds) if draws else tuple(seeds)[:1]
    if prior_facts and isinstance(solver, DiffusionSolver) and solver.ladder:
        load_ladder(
            solver.ladder, solver.steps, prior_sha256=prior_facts["sha256"], solver=type(solver).__name__.lower()
        )
    scaling = known.units.of(problem, air=acquisition.zero)
    encoded = scaling.encode(onto(problem, chosen.space) if known.grid and chosen else problem)
    if warm:
        check_solver(solver, encoded, chosen)
    ready = time.perf_counter()
    steering = None
    if steers := steer or (Steering() if isinstance(solver, SCD) else None):
        check_requirements(solver, encoded, chosen)
        chosen, steering = steered(chosen, encoded, steers, prior_facts)
    adapted = time.perf_counter()
    streams = partial(SharedRng, axis=planes.axes[0], share=planes.shared) if planes and planes.shared else Rng
    how: dict[str, Any] = {
        "seeds": seeds,
        "antithetic": antithetic,
        "width": width,
        "callback": callback,
        "noise": streams,
    }
    kept = None
    if checkpoint:
        decides = {
            "measurement": fingerprint(measurement),
            "solver": config.dump(solver),
            "prior": prior_facts and {k: prior_facts[k] for k in ("sha256", "dtype")},
            "planes": asdict(planes) if planes else None,
            "grid": asdict(known.grid) if known.grid else None,
            "warm": asdict(warm) if warm else None,
            "steer": asdict(steers) if steers else None,
            "seeds": list(seeds),
            "antithetic": antithetic,
            "width": width,
            "device": str(place),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        kept = Checkpoint(checkpoint, decides, every=every)

    def unknown(u: Tensor) -> Tensor:
        return scaling.decode(home(encoded, u) if known.grid else u)

    drawn: Iterable[Tensor]
    started: dict[str, Any]
    found = Gathered(problem, measurement, each, spread=len(seeds) > 1)
    try:
        if warm and chain:
            drawn, started = solve_chain(encoded, chosen, solver, chain, sigma=warm.sigma, checkpoint=kept, **how)
        else:
            drawn, started = solve_each(encoded, chosen, solver, checkpoint=kept, **how), {}
        for x in drawn:
            found.add(unknown(x))
    except Interrupted as e:
        raise Interrupted(e.rows, found.so_far(e, seeds[0], unknown)) from e
    except DivergedError:
        if kept:  # it would again
            kept.remove()
        raise
    solved = time.perf_counter()
    fit = {"mean": data_fit(problem, found.mean), "first_sample": found.first_fit}
    facts = {
        "command": "reconstruct",
        "solver": config.dump(solver),
        "gives": ("sample" if draws else "point estimate")
        if len(seeds) == 1
        else f"mean of {len(seeds)} posterior samples",
        "prior": prior_facts,
        "steering": steering,
        "planes": asdict(planes) if planes else None,
        "grid": asdict(known.grid) if known.grid else None,
        "warm": {"along": warm.along} | started if warm else None,
        "seeds": list(seeds),
        "antithetic": antithetic,
        "acquisition": config.dump(acquisition),
        "measurement": measurement.facts,
        "noise": config.dump(measurement.noise),
        "intensity_unit": scaling.unit,
        "intensity_offset": scaling.offset + acquisition.zero,
        "nfe_per_sample": started.get("nfe_per_sample", solver.nfe) if prior_facts else 0,
        "network_calls": getattr(chosen, "calls", 0),
        "network_batch": width,
        "data_fit": fit,
        "warnings": known.warnings
        + spread_warnings(chosen, len(seeds))
        + no_neighbours(started)
        + warnings_of(fit["first_sample"]["chi2"]),
        "seconds": {"prepare": ready - began, "steer": adapted - ready, "solve": solved - adapted},
        "machine": machine(place),
        "versions": versions(),
        "intended_use": "research only",
    }
    return Reconstruction(
        measurement.volume(found.mean),
        found.std,
        found.samples,
        facts,
        chosen if isinstance(chosen, SteeredPrior) else None,
    )


def default_width(m: Measurement) -> int:
    """8 slices at once, or one volume."""
    return 1 if m.volumetric else WIDTH


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


def pick_device(name: str) -> torch.device:
    """The device called `name`; raises ConfigError when this machine has none of the kind."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(f"device {name!r} is not available here; use auto or cpu") from e
    return device


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


def _to(problem: InverseProblem[Any, Any], device: torch.device) -> InverseProblem[Any, Any]:
    return replace(problem, operator=problem.operator.to(device), y=problem.y.to(device))
