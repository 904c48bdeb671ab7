"""Golden-angle radial NUFFTs against torchkbnufft, sigpy and mri-nufft, as far as they are installed, side by side.

    python benchmarks/nufft.py [--rounds 7] [--tolerance 1e-4]

Medians over interleaved rounds, complex64; errors against the direct sum at 200 samples. A is image to samples.
"""

import argparse
import importlib
import math
import statistics
import time

import torch
from common import header, table

from invdiff import trajectories
from invdiff.operators import NUFFT
from invdiff.space import Space

CASES = [(256, 64, 1), (320, 64, 8), (320, 96, 16)]  # pixels, spokes, coils


def ours(backend, n, k, coils, tolerance):
    A = NUFFT(Space((coils, n, n), torch.complex64), k, backend=backend, tolerance=tolerance)
    return lambda x: A(x)[0], lambda y: A.adjoint(y[None])[0]


def torchkbnufft(n, k, coils, tolerance):
    """Its default: six neighbours from a table."""
    peer = importlib.import_module("torchkbnufft")
    omega = (2 * math.pi / n * k).T.float().contiguous()
    forward, adjoint = peer.KbNufft(im_size=(n, n)), peer.KbNufftAdjoint(im_size=(n, n))
    return lambda x: forward(x, omega)[0] / n, lambda y: adjoint(y[None], omega)[0] / n


def sigpy(n, k, coils, tolerance):
    """Its default: width 4, grid of 1.25 n."""
    peer = importlib.import_module("sigpy")
    coord = k.numpy()
    return (
        lambda x: torch.from_numpy(peer.nufft(x[0].numpy(), coord)),
        lambda y: torch.from_numpy(peer.nufft_adjoint(y.numpy(), coord, oshape=(coils, n, n))),
    )


def mri_nufft(n, k, coils, tolerance):
    """Its wrapper of finufft."""
    peer = importlib.import_module("mrinufft")
    samples = (k / n).numpy().astype("float32")
    A = peer.get_operator("finufft")(samples, shape=(n, n), n_coils=coils, squeeze_dims=False, eps=tolerance)
    scale = A.norm_factor / n
    return (
        lambda x: torch.from_numpy(A.op(x[0].numpy())[0]) * scale,
        lambda y: torch.from_numpy(A.adj_op(y.numpy()[None])[0]) * scale,
    )


def direct_sum(x, k, n):
    """Samples of (coils, n, n) with the origin in the middle of the image."""
    E = [torch.exp(-2j * math.pi / n * k[:, a : a + 1] * (torch.arange(n) - n // 2)) for a in (0, 1)]
    return torch.einsum("ki,cij,kj->ck", E[0], x.to(torch.complex128), E[1]) / n


def seconds(run, argument):
    began = time.perf_counter()
    run(argument)
    return time.perf_counter() - began


def contestants(n, k, coils, tolerance):
    makers = {
        "invdiff, finufft": lambda *a: ours("finufft", *a),
        "invdiff, gridding": lambda *a: ours("gridding", *a),
        "torchkbnufft": torchkbnufft,
        "sigpy": sigpy,
        "mri-nufft, finufft": mri_nufft,
    }
    for name, make in makers.items():
        try:
            yield name, make(n, k, coils, tolerance)
        except ImportError as e:
            print(f"{name} is left out: {e}")


def case(n, spokes, coils, tolerance, rounds):
    k = trajectories.radial((n, n), spokes, golden=True)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, coils, n, n, dtype=torch.complex64, generator=g)
    y = torch.randn(coils, len(k), dtype=torch.complex64, generator=g)
    some = torch.randperm(len(k), generator=g)[:200]
    want = direct_sum(x[0], k[some], n)
    turn = torch.exp(2j * math.pi * (k[some] * (n // 2) / n).sum(1))
    runs, times, errors = dict(contestants(n, k, coils, tolerance)), {}, {}
    for name, (forward, adjoint) in runs.items():
        adjoint(y)
        got = forward(x)[:, some] * (turn if name.startswith("invdiff") else 1)
        errors[name] = float((got - want).norm() / want.norm())
        assert errors[name] < 0.02, f"{name} computes something else"
        times[name] = ([], [])
    for _ in range(rounds):
        for name, (forward, adjoint) in runs.items():
            times[name][0].append(seconds(forward, x))
            times[name][1].append(seconds(adjoint, y))
    medians = {name: [1e3 * statistics.median(t) for t in both] for name, both in times.items()}
    best = medians["invdiff, finufft"]
    rows = [[name, f"{a:.1f}", f"{b:.1f}", f"{a / best[0]:.1f}", f"{b / best[1]:.1f}", f"{errors[name]:.0e}"]
            for name, (a, b) in medians.items()]  # fmt: skip
    title = f"{n} x {n}, {spokes} spokes, {coils} coils, tolerance {tolerance:g}; ratios to invdiff with finufft"
    table(title, ["", "A, ms", "A^H, ms", "ratio", "ratio", "error"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    header()
    for sizes in CASES:
        case(*sizes, args.tolerance, args.rounds)
