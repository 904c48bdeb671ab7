"""Whether intervals of 90 % cover 88 to 92 % of what they have not seen, before and after `invdiff calibrate`.

    python benchmarks/calibration.py --scans DIR [--only t1_2mm epi_2mm ct_abdopelvis_3mm]

diffpir, 12 levels, 8 samples in pairs of opposite noise, 1 % noise; 4x MRI with a phase, or CT of 60 views; 16 slices
of a scan (two of the diffusion series). `lower` and `upper` are halves of one scan, 8 slices each: another anatomy, the
same person and scanner. Scans are different persons. Voxels are those of the body. CRPS and width of the 90 % interval
are fractions of the intensity unit. `pooled` is the coverage by factors of all voxels at once.

`law`: how much of four further samples the intervals of the first n cover, by the law of pairs and by that of
independent samples; for 50, 90 and 99 %. `tried`: learned on even slices, held to odd ones, other corrections. Flat to
textured: thirds of the body by the truth's standard deviation over 5 x 5 voxels. Low to high: fifths by the samples'
standard deviation. `fresh` is of further samples in the place of the truth, without a correction: what is uneven there
comes from the noise of that deviation alone.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import header, table
from scipy.ndimage import gaussian_filter, uniform_filter

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import CT, MRI
from invdiff.calibration import body, check, compared, learn, save
from invdiff.calibration.learning import quantiles
from invdiff.calibration.scans import Slice
from invdiff.metrics.calibration import LEVELS
from invdiff.predictive import Law
from invdiff.solvers import DiffPIR
from invdiff.volumes import Volume

SCANS = {  # first and last slice, how it is measured
    "t1_2mm": (20, 72, MRI()),
    "epi_2mm": (4, 20, MRI()),
    "dwi_b1k_b2k_2slices": (0, 1, MRI()),
    "ct_abdopelvis_3mm": (8, 104, CT(views=60)),
}
SLICES, SAMPLES, FRESH = 16, 8, 4
HALF, NINETY, MOST = (LEVELS.index(level) for level in (0.5, 0.9, 0.99))


class Case:
    """A scan, reconstructed from 8 samples, and four samples more."""

    def __init__(self, folder, name):
        first, last, acquisition = SCANS[name]
        volume = load(folder / f"{name}.nii.gz")
        count = min(SLICES, last - first + 1)
        data = volume.data[:1, ..., torch.linspace(first, last, count).long()]
        data = data if name.startswith("ct") else data.clamp_min(0)
        truth = Volume(data.contiguous(), volume.affine)
        self.m = simulate(truth, acquisition, noise=0.01)
        done = reconstruct(self.m, DiffPIR(), seeds=range(SAMPLES + FRESH))
        self.name, self.truth, self.unknown = name, truth.data[0].numpy(), done.samples
        self.unit = done.facts["intensity_unit"]
        self.stored = np.stack([self.m.volume(x).data[0].numpy() for x in done.samples])
        self.mean, self.std = self.moments(SAMPLES)
        self.body = body(self.mean)
        facts = done.facts | {"seeds": list(range(SAMPLES))}
        images = (truth.like(torch.from_numpy(x)[None]) for x in (self.mean, self.std, self.truth))
        self.scan = compared(name, *images, facts, sha256=name)

    def moments(self, n):
        """What `reconstruct` stores for the first n samples: the image of their mean, the spread of their images."""
        return self.m.volume(self.unknown[:n].mean(0)).data[0].numpy(), self.stored[:n].std(0, ddof=1)

    def opposites(self):
        """The correlation of two samples of opposite noise in the body, about the mean of all."""
        away = (self.stored - self.stored.mean(0))[:, self.body]
        return np.corrcoef(away[0::2].ravel(), away[1::2].ravel())[0, 1]

    def part(self, name, keep):
        return replace(self.scan, name=f"{self.name} {name}", sha256=f"{self.name} {name}", slices=keep)


def laws(cases):
    rows = []
    for case in cases:
        for n in (2, 4, 8):
            mean, std = case.moments(n)
            away = abs(case.stored[SAMPLES:] - mean)[:, case.body] / std[case.body]
            row = [case.name, n, f"{case.opposites():.2f}"]
            for antithetic in (True, False):
                multiples = Law.of(n, antithetic=antithetic).multiple([0.5, 0.9, 0.99])
                row.append(", ".join(f"{(away <= k).mean():.3f}" for k in multiples))
            rows.append(row)
    table(
        "law: share of further samples inside the intervals of the first n",
        ["scan", "n", "correlation", "pairs", "independent"],
        rows,
    )


def splits(cases):
    pairs = []
    for case in cases:
        each = case.scan.slices
        if len(each) < SLICES:
            continue
        lower, upper = case.part("lower", each[: SLICES // 2]), case.part("upper", each[SLICES // 2 :])
        pairs += [([lower], upper), ([upper], lower)]
    mri = [case.scan for case in cases if case.scan.method["acquisition"] == "mri"]
    big = [scan for scan in mri if len(scan.slices) == SLICES]
    pairs += [([one], other) for one in big for other in mri if one is not other]
    pairs += [(big, other) for other in mri if other not in big and len(big) > 1]
    rows, size = [], 0
    for learned, other in pairs:
        calibration, _ = learn(learned)
        with tempfile.TemporaryDirectory() as folder:
            save(path := Path(folder) / "c.json", calibration)
            size = max(size, path.stat().st_size)
        found = check(calibration, [other])
        pooled = check(replace(calibration, factors=pooled_factors(calibration, learned)), [other])
        before, after = found.before, found.after
        names = " + ".join(scan.name for scan in learned)
        rows.append([
            f"{names} -> {other.name}", f"{calibration.factors[NINETY]:.2f}",
            *[f"{r['coverage'][NINETY]:.3f}" for r in (before, after, pooled.after)],
            "{:.3f} to {:.3f}".format(*found.most),
            f"{after['coverage'][HALF]:.3f}, {after['coverage'][MOST]:.3f}",
            *[f"{before[k]:.4f}, {after[k]:.4f}" for k in ("crps", "width90")],
        ])  # fmt: skip
    columns = [
        "learned -> held to",
        "factor",
        "before",
        "after",
        "pooled",
        "8 of 10 slices",
        "50, 99 %",
        "CRPS",
        "width",
    ]
    table(f"coverage of 90 % intervals; the largest file has {size} bytes", columns, rows)


def pooled_factors(calibration, scans):
    """By the quantiles of all voxels at once."""
    each = [s for scan in scans for s in scan.slices]
    one = Slice(0.5, np.concatenate([s.error for s in each]), np.concatenate([s.std for s in each]))
    return tuple(quantiles(one, calibration.floor) / Law.of(SAMPLES, antithetic=True).multiple(LEVELS))


def tried(cases):
    rows = []
    for case in cases:
        if case.mean.shape[2] < SLICES:
            continue
        odd = np.zeros_like(case.body)
        odd[..., 1::2] = True
        error, std = abs(case.truth - case.mean) / case.unit, case.std / case.unit
        learned, held = case.body & ~odd, case.body & odd
        for name, spread in corrections(error, std, learned).items():
            factor = np.quantile((error / spread)[learned], 0.9)
            inside = error <= factor * spread
            width = 2 * factor * spread[held].mean()
            rows.append(
                [case.name, name, f"{inside[held].mean():.3f}", f"{width:.4f}", *groups(case, inside[None], held)]
            )
        multiple = Law.of(SAMPLES, antithetic=True).multiple(0.9)
        inside = abs(case.stored[SAMPLES:] - case.mean) <= multiple * case.std
        rows.append([case.name, "fresh", f"{inside[:, held].mean():.3f}", "", *groups(case, inside, held)])
    columns = ["scan", "spread", "coverage", "width", "flat to textured", "low to high std"]
    table("tried: 90 %, even slices -> odd ones", columns, rows)


def corrections(error, std, learned):
    out = {f"std, floor {floor:g}": np.sqrt(std**2 + floor**2) for floor in (0, 0.002, 0.005, 0.01, 0.02)}
    out["std + 0.01"] = std + 0.01
    for bins in (3, 5):
        edges = np.quantile(std[learned], np.linspace(0, 1, bins + 1)[1:-1])
        at = np.searchsorted(edges, std)
        factors = [np.quantile((error / std)[learned & (at == b)], 0.9) for b in range(bins)]
        out[f"std, factors of {bins} bins"] = std * np.minimum.accumulate(factors)[at]
    for width in (1, 2):
        out[f"std, smoothed by {width}"] = np.sqrt(gaussian_filter(std**2, (width, width, 0)))
    return out


def groups(case, inside, held):
    """Coverage by thirds of texture and by fifths of the spread."""
    mean = uniform_filter(case.truth, (5, 5, 1))
    texture = np.sqrt(np.maximum(uniform_filter(case.truth**2, (5, 5, 1)) - mean**2, 0))
    for by, parts in ((texture, 3), (case.std, 5)):
        edges = np.quantile(by[held], np.linspace(0, 1, parts + 1)[1:-1])
        at = np.searchsorted(edges, by)
        yield ", ".join(f"{inside[:, held & (at == p)].mean():.3f}" for p in range(parts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SCANS, default=list(SCANS))
    arguments = parser.parse_args()
    header()
    measured = [Case(arguments.scans, name) for name in arguments.only]
    splits(measured)
    laws(measured)
    tried(measured)
