"""Blur and thick slices of whole volumes against scipy.ndimage and torch's conv3d, side by side.

    python benchmarks/blur.py [--size 160 256 256] [--rounds 5]

Medians over interleaved rounds; each row computes the same numbers, checked to 1e-4 of the largest. float32.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from common import header, table
from scipy.ndimage import convolve, gaussian_filter, uniform_filter1d

from invdiff.operators import Convolution, average_pool, gaussian_blur, thick_slices
from invdiff.space import Space

FACTOR = 4


def conv3d(x, std):
    """Three one-dimensional convolutions, mirrored borders: what most libraries run."""
    for axis, s in enumerate(std):
        reach = int(4 * s + 0.5)
        h = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / s) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        mirrored = symmetric(x, 2 + axis, reach)
        x = F.conv3d(mirrored, (h / h.sum()).reshape(shape))
    return x


def symmetric(x, dim, reach):
    head, tail = x.narrow(dim, 0, reach), x.narrow(dim, x.shape[dim] - reach, reach)
    return torch.cat([head.flip(dim), x, tail.flip(dim)], dim)


def cases(size):
    space = Space((1, *size))
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    a = x[0, 0].numpy()
    for s in (1.5, 3.0):
        A = gaussian_blur(space, (s, s, s))
        peers = {"scipy gaussian_filter": lambda s=s: gaussian_filter(a, s), "conv3d": lambda s=s: conv3d(x, (s, s, s))}
        yield f"Gaussian, std {s:g}", lambda A=A: A(x), peers
    B = thick_slices(space, 2, FACTOR, FACTOR)
    start = FACTOR // 2
    moving = lambda: uniform_filter1d(a, FACTOR, axis=2)[..., start::FACTOR]  # noqa: E731
    yield f"slices {FACTOR} times as thick", lambda: B(x), {"scipy uniform_filter1d, decimated": moving}
    C = average_pool(space, (2, 2, 2))
    yield "blocks of 2 x 2 x 2", lambda: C(x), {"torch avg_pool3d": lambda: F.avg_pool3d(x, 2)}
    h = torch.rand(5, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    D = Convolution(space, h / h.sum())
    yield "any kernel of 5 x 5 x 5", lambda: D(x), {"scipy convolve": lambda: convolve(a, (h / h.sum()).numpy())}


def seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(160, 256, 256))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    header()
    rows = []
    for name, ours, peers in cases(tuple(args.size)):
        runs = {"invdiff": ours, **peers}
        results = {who: torch.as_tensor(run()).flatten() for who, run in runs.items()}
        worst = max(float((r - results["invdiff"]).abs().max()) for r in results.values())
        assert worst < 1e-4 * float(results["invdiff"].abs().max()), f"{name}: results differ by {worst:.1e}"
        times = {who: [] for who in runs}
        for _ in range(args.rounds):
            for who, run in runs.items():
                times[who].append(seconds(run))
        base = statistics.median(times["invdiff"])
        for who in peers:
            peer = statistics.median(times[who])
            rows.append([name, who, f"{1e3 * base:.1f}", f"{1e3 * peer:.1f}", f"{peer / base:.1f}"])
    table(f"{'x'.join(map(str, args.size))}, ms", ["what", "peer", "invdiff", "peer's", "ratio"], rows)
