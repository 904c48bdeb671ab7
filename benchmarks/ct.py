"""CT projectors: time to build, memory, time to project and back-project, against ASTRA, deepinv and scikit-image.

    python benchmarks/ct.py [--sizes 128 256] [--views 60 180] [--rounds 5] [--batch 32] [--build 512 180] [--cone 64]

Medians over interleaved rounds in ms, float32. Peers that are not installed are left out; ASTRA runs on the CPU, one
slice after the other, with the same interpolation. The adjoint of scikit-image is its back-projection without a filter,
that of deepinv its default. The disk cache is off, so that builds are builds.
"""

import argparse
import gc
import importlib
import os
import statistics
import time
from itertools import product

os.environ["INVDIFF_CACHE_DIR"] = "off"

import numpy as np
import torch
from common import header, table
from skimage.transform import iradon, radon

from invdiff.operators import ConeBeam, FanBeam, ParallelRadon
from invdiff.space import Space


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def medians(runs, rounds):
    """Milliseconds of each, interleaved, after one round to warm up."""
    times = {who: [] for who in runs}
    for i in range(rounds + 1):
        for who, run in runs.items():
            took = seconds(run)
            if i:
                times[who].append(1e3 * took)
    return {who: statistics.median(t) for who, t in times.items()}


def build(n, views, kind):
    space, theta = Space((1, n, n)), np.arange(views) * np.pi / views
    gc.collect()
    began = time.perf_counter()
    A = ParallelRadon(space, theta) if kind == "parallel" else FanBeam(space, 2 * theta, 2.0 * n, 3.0 * n)
    took = time.perf_counter() - began
    if A.matrix is None:
        return A, [kind, f"{n}^2 x {views}", f"{took:.2f}", "-", f"in slabs of {A.slab} views"]
    MiB = sum(M.values().numel() * 8 + M.crow_indices().numel() * 4 for M in (A.matrix, A.transpose)) / 2**20
    return A, [kind, f"{n}^2 x {views}", f"{took:.2f}", f"{MiB:.0f}", f"{A.matrix.values().numel() / 1e6:.1f} M"]


def astra_runs(kind, A, n, batch):
    astra = installed("astra")
    if astra is None:
        return {}, {}
    volume, (_, views, D) = astra.create_vol_geom(n, n), A.range.shape
    if kind == "parallel":
        projector = astra.create_projector("linear", astra.create_proj_geom("parallel", 1.0, D, A.angles), volume)
    else:
        geometry = astra.create_proj_geom("fanflat", 1.5, D, A.angles, 2.0 * n, 1.0 * n)
        projector = astra.create_projector("line_fanflat", geometry, volume)
    W = astra.OpTomo(projector)
    x, y = np.random.rand(batch, n * n).astype("f"), np.random.rand(batch, views * D).astype("f")  # noqa: NPY002
    return {"astra": lambda: [W.FP(a.reshape(n, n)) for a in x]}, {
        "astra": lambda: [W.BP(b.reshape(views, D)) for b in y]
    }


def deepinv_runs(n, views, batch):
    if installed("deepinv") is None:
        return {}, {}
    from deepinv.physics import Tomography

    physics = Tomography(angles=torch.arange(views) * 180.0 / views, img_width=n, circle=False, normalize=False)
    x = torch.rand(batch, 1, n, n)
    y = physics.A(x)
    return {"deepinv": lambda: physics.A(x)}, {"deepinv": lambda: physics.A_adjoint(y)}


def skimage_runs(n, views, batch):
    degrees, x = np.arange(views) * 180 / views, np.random.rand(n, n)  # noqa: NPY002
    y = radon(x, degrees, circle=False)
    project = lambda: [radon(x, degrees, circle=False) for _ in range(batch)]  # noqa: E731
    return {"scikit-image": project}, {
        "scikit-image": lambda: [iradon(y, degrees, n, filter_name=None, circle=False) for _ in range(batch)]
    }


def mismatch(A):
    """Largest |<A x, y> - <x, A^T y>| / (|A x| |y|) over 20 pairs."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, *A.domain.shape, generator=g), torch.randn(20, *A.range.shape, generator=g)
    Ax, ATy = A(x).double().flatten(1), A.adjoint(y).double().flatten(1)
    gap = (Ax * y.double().flatten(1)).sum(1) - (x.double().flatten(1) * ATy).sum(1)
    return float((gap.abs() / (Ax.norm(dim=1) * y.double().flatten(1).norm(dim=1))).max())


def case(kind, A, n, views, batch, rounds):
    """Rows of one size and one number of slices: forward, adjoint, and direct of a single slice."""
    x, y = torch.rand(batch, *A.domain.shape), torch.rand(batch, *A.range.shape)
    peers = [astra_runs(kind, A, n, batch)]
    if kind == "parallel" and (batch == 1 or n < 256):  # minutes, and gigabytes, otherwise
        peers += [deepinv_runs(n, views, batch), skimage_runs(n, views, batch)]
    name = f"{kind} {n}^2 x {views}"
    for way, ours, side in (("forward", lambda: A(x), 0), ("adjoint", lambda: A.adjoint(y), 1)):
        runs = {"invdiff": ours}
        for p in peers:
            runs |= p[side]
        ms = medians(runs, rounds)
        ratios = [f"{ms[w]:.1f} ({ms[w] / ms['invdiff']:.1f}x)" if w in ms else None for w in PEERS]
        yield [name, batch, way, f"{ms['invdiff']:.1f}", *ratios]
    if batch == 1:
        yield [name, 1, "direct", f"{1e3 * seconds(lambda: A.direct(y)):.0f}", *[None] * len(PEERS)]


def flat(args):
    built, rows = [], []
    for kind in ("parallel", "fan"):
        for n, views in product(args.sizes, args.views):
            A, row = build(n, views, kind)
            built.append([*row, f"{mismatch(A):.0e}"])
            for batch in (1, args.batch):
                rows += case(kind, A, n, views, batch, args.rounds)
        built.append([*build(*args.build, kind)[1], None])
    table("matrices", ["beam", "size", "build s", "MiB of both", "entries", "mismatch"], built)
    table("time, ms", ["case", "slices", "", "invdiff", *PEERS], rows)


def cone(n, rounds):
    A = ConeBeam(
        Space((1, n, n, n)), np.arange(60) * 2 * np.pi / 60, 3.0 * n, 4.5 * n, (3 * n // 2,) * 2, cell=(1.5, 1.5)
    )
    x, y = torch.rand(1, *A.domain.shape), torch.rand(1, *A.range.shape)
    ms = medians({"forward": lambda: A(x), "adjoint": lambda: A.adjoint(y), "direct": lambda: A.direct(y)}, rounds)
    table(f"cone {n}^3 x 60 views of {3 * n // 2}^2, ms", list(ms), [[f"{t:.0f}" for t in ms.values()]])


PEERS = ("astra", "deepinv", "scikit-image")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=(128, 256))
    parser.add_argument("--views", type=int, nargs="+", default=(60, 180))
    parser.add_argument("--build", type=int, nargs=2, default=(512, 180))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cone", type=int, default=64)
    args = parser.parse_args()
    header()
    flat(args)
    if args.cone and installed("diffct"):
        cone(args.cone, min(args.rounds, 2))
