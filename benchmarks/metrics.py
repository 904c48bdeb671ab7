"""SSIM by banded matrices against scikit-image's, side by side, and how often intervals of `compare` hold the truth.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--shape 160 256 256] [--rounds 5] [--studies 1000]

Ratios are of medians over interleaved rounds, of the processor's seconds. `differs` is the greatest difference of the
two maps at any voxel. MiB is the peak of what is allocated beyond the two images (tracemalloc). `evaluate` is all of
a row: PSNR, SSIM, NRMSE, NMSE and HFEN.

The second table draws paired differences of a known mean and counts the 95 % intervals that hold it.
"""

import argparse
import statistics
import time
import tracemalloc

import numpy as np
from common import header, table
from skimage.metrics import structural_similarity

from invdiff.metrics import PRESETS, evaluate
from invdiff.metrics.protocol import Protocol
from invdiff.metrics.ssim import ssim_map
from invdiff.metrics.statistics import interval

PAIRS = (6, 10, 20, 40, 100)

CASES = {
    "gaussian, 2d": PRESETS["invdiff"],
    "gaussian, 3d": Protocol(ssim="3d"),
    "uniform, 2d (fastmri)": PRESETS["fastmri"],
    "uniform, 3d (skimage)": PRESETS["skimage"],
}


def theirs(x, reference, data_range, protocol):
    settings = {
        "use_sample_covariance": protocol.sample_covariance,
        "channel_axis": 2 if protocol.ssim == "2d" else None,
    }
    if protocol.window == "gaussian":
        settings |= {"gaussian_weights": True, "sigma": 1.5}
    return structural_similarity(reference, x, data_range=data_range, full=True, **settings)[1]


def seconds(run):
    began = time.process_time()
    run()
    return time.process_time() - began


def peak(run):
    tracemalloc.start()
    run()
    mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return mib


def images(shape):
    random = np.random.default_rng(0)
    reference = np.cumsum(random.normal(size=shape), 2)
    return reference + random.normal(size=shape), reference


def rows(shape, rounds):
    x, reference = images(shape)
    data_range = float(np.ptp(reference))
    for name, protocol in CASES.items():
        runs = [lambda f=f, p=protocol: f(x, reference, data_range, p) for f in (theirs, ssim_map)]
        differs = abs(runs[0]() - runs[1]()).max()
        taken = [[seconds(run) for run in runs] for _ in range(rounds)]
        a, b = (statistics.median(column) for column in zip(*taken, strict=True))
        whole = statistics.median(seconds(lambda p=protocol: evaluate(x, reference, protocol=p)) for _ in range(rounds))
        mib = [f"{peak(run):.0f}" for run in runs]
        yield [name, f"{a:.2f}", f"{b:.2f}", f"{a / b:.1f}", f"{differs:.0e}", *mib, f"{whole:.2f}"]


def coverage(studies):
    draws = {"normal": lambda rng, n: rng.normal(1, 1, n), "exponential": lambda rng, n: rng.exponential(1, n)}
    for name, draw in draws.items():
        shares = []
        for n in PAIRS:
            rng = np.random.default_rng(n)
            ends = [interval(draw(rng, n), resamples=999, seed=k) for k in range(studies)]
            shares.append(np.mean([low <= 1 <= high for low, high, _ in ends]))
        yield [name, *(f"{100 * share:.1f} %" for share in shares)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs=3, type=int, default=[160, 256, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--studies", type=int, default=1000)
    arguments = parser.parse_args()
    header()
    table(
        f"SSIM map, {' x '.join(map(str, arguments.shape))}, float64",
        ["window", "scikit-image s", "here s", "ratio", "differs", "MiB theirs", "MiB here", "evaluate s"],
        rows(arguments.shape, arguments.rounds),
    )
    table(
        f"95 % intervals of {arguments.studies} studies that hold the true mean difference",
        ["differences", *(f"{n} pairs" for n in PAIRS)],
        coverage(arguments.studies),
    )
