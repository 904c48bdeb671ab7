"""What a run will take, how it is made to fit, and what is said when it cannot."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff import load, measurements, reconstruct, simulate
from invdiff.acquisitions import MRI, ThickSlices
from invdiff.errors import OutOfMemoryError
from invdiff.fitting import narrower
from invdiff.learned import learned
from invdiff.memory import GIB, MIB, Tracker, held
from invdiff.plan import Memory, Way
from invdiff.planes import Planes, per_call
from invdiff.preparation import planned
from invdiff.rehearsal import quick, rehearse
from invdiff.rng import Rng
from invdiff.solvers import CG, DPS, MMPS, TPDM, DiffPIR, Iterate, PnP
from invdiff.steering import Steering
from invdiff.volumes import Volume

CPU = torch.device("cpu")
SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
ONE = {"seeds": (0,), "antithetic": False, "dtype": "float32"}


@pytest.fixture(scope="module")
def volume(small_volume):
    return load(small_volume)


@pytest.fixture(scope="module")
def large():
    return smooth(320, 288)


def smooth(*size):
    """One slice, real."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 1, 20, 18), generator=g)
    data = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp_min(0)
    return simulate(Volume(100 * data.movedim(1, 3), np.eye(4)), MRI(image="real"), noise=0.02)


def scaled(m, solver, **how):
    """The prior, and the problem in its units."""
    known = learned(solver, m, None, dtype="float32", device=CPU, **({"width": 8} | how))
    problem = m.problem()
    return known.model, known.units.of(problem).encode(problem)


@pytest.mark.parametrize("solver", [DiffPIR(steps=4), DPS(steps=4), MMPS(steps=4)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("whole", [False, True])
def test_a_rehearsal_takes_what_the_run_takes(solver, whole, volume):
    """The same levels under the tracker, with the network itself: bytes within a few per cent, calls to the number.

    MMPS takes several gradients of a graph that it keeps, and as many as it needs.
    """
    m = simulate(volume, MRI(), noise=0.02)
    m = m.as_volumes() if whole else m
    how = {"planes": Planes((0,))} if whole else {}
    model, problem = scaled(m, solver, **how)
    found = rehearse(problem, model, solver, width=1 if whole else 8)
    index = [0] if whole else [i % 4 for i in range(8)]
    with torch.no_grad(), Tracker() as tracker:
        chunk, rng = problem.rows(index), Rng([(0, i) for i in index])
        run = solver.iterate(chunk, model, rng, Iterate.before(solver.start(chunk, model, rng)))
        for _ in range(2):
            next(run)
        run.close()
    several = isinstance(solver, MMPS)
    assert abs(found.together / tracker.peak - 1) < (0.1 if several else 0.05)
    if not several or not whole:
        assert 2 * sum(found.calls.values()) == model.calls, "48 slices of the volume are six calls a level"
    assert found.alone < found.together
    assert (sum(found.backs.values()) > 0) == (not isinstance(solver, DiffPIR))


def test_a_rehearsal_leaves_the_prior_as_it_was(volume):
    m = simulate(volume, MRI(), noise=0.02)
    solver = DiffPIR(steps=2)
    model, problem = scaled(m, solver)
    rehearse(problem, model, solver, width=8)
    assert model.calls == 0
    free = reconstruct(m, solver, memory=Memory(100.0), **ONE)
    again = reconstruct(m, solver, **ONE)
    assert torch.equal(free.samples, again.samples)
    assert free.facts["network_calls"] == 2


def test_quick_cuts_what_iterates_inside_a_level():
    assert quick(DiffPIR()) == replace(DiffPIR(), cg_iterations=2)
    assert quick(CG(iterations=1)) == CG(iterations=1)
    assert quick(PnP()).iterations == 2


def test_memory_does_not_grow_with_slices_that_are_solved_by_themselves(volume):
    m = simulate(volume, MRI(), noise=0.02)
    more = simulate(Volume(volume.data.repeat(1, 1, 1, 5), volume.affine), MRI(), noise=0.02)
    (a, few), (b, many) = (scaled(one, DPS()) for one in (m, more))
    sizes = [rehearse(problem, model, DPS(steps=2), width=8).together for model, problem in ((a, few), (b, many))]
    assert sizes[0] == sizes[1]


def test_the_order_of_what_is_tried(volume):
    m = simulate(volume, MRI(), noise=0.02)
    slices, _ = scaled(m, DiffPIR())
    whole, _ = scaled(m.as_volumes(), DiffPIR(), planes=Planes((2, 0)))
    first = Way(8, 8, "auto")
    ways = list(narrower(first, slices, volumes=False, windows=True))
    assert [w.width for w in ways] == [8, 4, 2, 1, 1], "48 voxels are no more than the smallest window"
    assert [w.dtype for w in ways] == ["auto"] * 4 + ["bfloat16"]
    ways = list(narrower(replace(first, width=1), whole, volumes=True, windows=True))
    assert [(w.width, w.slices) for w in ways] == [(1, 8), (1, 4), (1, 2), (1, 1), (1, 1)]
    assert [w.dtype for w in narrower(Way(2, 8, "float32"), slices, volumes=False, windows=True)] == ["float32"] * 2
    slices.space = replace(slices.space, shape=(2, 300, 100))
    ways = list(narrower(first, slices, volumes=False, windows=True))
    assert [w.window for w in ways[5:]] == [256, 128, 64]
    assert {(w.width, w.dtype) for w in ways[5:]} == {(1, "bfloat16")}
    assert all(w.window is None for w in narrower(first, slices, volumes=False, windows=False))
    assert list(narrower(first, None, volumes=True, windows=True)) == [first]


def test_large_slices_are_fewer_in_a_call(large, volume):
    """As many as hold 2^18 pixels, at most eight; of a volume those of its largest plane count."""
    solver = DiffPIR(steps=1)
    assert planned(large, solver, **ONE).way.width == 2**18 // (320 * 288) == 2
    deep = simulate(Volume(volume.data[:, :4, :5, :1].repeat(1, 100, 64, 1), np.eye(4)), MRI(), noise=0.02)
    assert per_call(deep.as_volumes(), Planes((2, 0))) == 2**18 // (400 * 320) == 2
    assert per_call(deep.as_volumes(), Planes((0, 1))) == 8
    huge = simulate(Volume(volume.data[:, :5, :5, :1].repeat(1, 128, 128, 1), np.eye(4)), MRI(), noise=0.02)
    assert per_call(huge) == 1
    small = simulate(volume, MRI(), noise=0.02)
    ways = planned(small, solver, **ONE).way, planned(small, solver, planes=Planes((2, 0)), **ONE).way
    assert [(way.width, way.slices) for way in ways] == [(8, 8), (1, 8)]


def test_less_memory_means_fewer_slices():
    m, solver = smooth(180, 180), DiffPIR(steps=1)
    one, eight = (planned(m, solver, width=width, **ONE).peak for width in (1, 8))
    assert eight > one + 80 * MIB
    few = planned(m, solver, gb=1.1 * (one + eight) / 2 / GIB, **ONE).way
    assert few.width in (1, 2, 4)
    assert few.window is None


def test_less_memory_means_windows_and_then_a_refusal(large):
    """A budget between the peaks of two ways; the image by windows is finite, on record and repeatable."""
    solver = DiffPIR(steps=1)
    one, window = (planned(large, solver, width=1, window=window, **ONE).peak for window in (None, 128))
    assert one > window + 30 * MIB
    r = reconstruct(large, solver, memory=Memory(1.1 * (window + one) / 2 / GIB), **ONE)
    chosen = r.facts["memory"]
    assert (chosen["width"], chosen["window"] in (256, 128, 64)) == (1, True), "a whole slice does not fit"
    assert bool(torch.isfinite(r.mean.data).all())
    (told,) = [w for w in r.facts["warnings"] if "windows" in w]
    assert f"overlapping windows of {chosen['window']} x {chosen['window']} voxels, so that they fit in memory" in told
    again = reconstruct(large, solver, width=1, window=chosen["window"], **ONE)
    assert torch.equal(r.samples, again.samples)
    whole = reconstruct(large, solver, width=1, **ONE)
    assert not torch.equal(whole.samples, r.samples)
    with pytest.raises(OutOfMemoryError) as e:
        reconstruct(large, solver, memory=Memory(0.5 * held(CPU) / GIB), **ONE)
    text = str(e.value)
    assert text.startswith("DiffPIR does not fit in memory with 1 slice per network call, float32, windows of 64 x 64 ")
    assert "voxels: it takes more than " in text
    assert " held already, and a tenth as a reserve; --mem-gb allows " in text
    assert text.endswith("Take more memory or a smaller volume")


def test_what_is_given_is_not_changed(large):
    solver = DiffPIR(steps=2)
    need = planned(large, solver, width=3, **ONE)
    assert need.way.width == 3
    with pytest.raises(OutOfMemoryError, match=r"3 slices per network call.* a run file without width, slices"):
        planned(large, solver, width=3, gb=need.peak / GIB, **ONE)


def test_hints_fit_the_run(volume):
    m = simulate(volume, MRI(), noise=0.02)
    with pytest.raises(OutOfMemoryError, match="slices by themselves, without --planes, fewer --samples or a smaller"):
        planned(m, TPDM(steps=2), gb=0.01, planes=Planes((2,)))
    with pytest.raises(OutOfMemoryError, match=r"CG does not fit in memory: it takes more than 0\.01 GiB, .* smaller"):
        planned(m, CG(), gb=0.01)


def test_stages_calls_and_seconds(volume):
    m = simulate(volume, MRI(), noise=0.02)
    plan = planned(m, DiffPIR(steps=6), seeds=range(8), planes=Planes((2, 0)), dtype="float32")
    assert plan.calls == 8 * 6 * (1 + 6) / 2, "half of the levels 4 slices in one call, half 48 in six"
    assert plan.chunks == 8
    assert [s.name for s in plan.stages] == ["process, prepared", "network", "solver and operator", "result"]
    assert all(s.seconds > 0 and s.bytes > 0 for s in plan.stages)
    assert plan.seconds == sum(s.seconds for s in plan.stages)
    assert plan.measured
    samples = 8 * m.as_volumes().space.reals * 4
    assert plan.stages[-1].bytes > samples
    streamed = planned(m, DiffPIR(steps=6), seeds=range(8), planes=Planes((2, 0)), dtype="float32", kept=False)
    assert plan.stages[-1].bytes - streamed.stages[-1].bytes == samples * 7 // 8
    thick = planned(simulate(volume, ThickSlices(factor=2), noise=0.01), CG())
    assert (thick.calls, thick.measured, thick.stages[1].bytes) == (0, False, 0)
    steered = planned(m, DiffPIR(steps=2), **ONE, steer=Steering(levels=2))
    assert [s.name for s in steered.stages][3] == "steering"
    assert steered.stages[3].bytes > steered.stages[1].bytes / 2


@pytest.mark.slow
def test_predicted_against_what_processes_took(tmp_path):
    """Peak resident memory of fresh processes, with and without gradients, within a fifth."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 1, 12, 12, 4), generator=g)
    data = 100 * torch.nn.functional.interpolate(coarse, size=(160, 160, 8), mode="trilinear")[0]
    y = tmp_path / "y.h5"
    measurements.save(y, simulate(Volume(data, np.eye(4)), MRI(), noise=0.02))
    flags = ("--samples", "1", "--steps", "2", "--mem-gb", "8")
    for how in (("--planes", "2,0"), ("--solver", "dps")):
        words = [sys.executable, "-m", "invdiff_cli", "plan", str(y), "--json", *flags, *how]
        plan = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        words = [sys.executable, "-m", "invdiff_cli", "reconstruct", str(y), "-o", "r.nii", "--force", *flags, *how]
        # Through a small process: what one took counts from the size of the one that started it.
        words = [sys.executable, "-c", SMALL, *words]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        ratio = plan["peak_mib"] / (int(done.stdout) / 1024)
        print(f"{how}: predicted {plan['peak_mib']} MiB, {ratio:.2f} of what was measured")
        assert 0.8 < ratio < 1.2
