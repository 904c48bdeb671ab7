"""Real two-coil k-space of a phantom: images of the coils, and their combination with maps found in the data.

python benchmarks/kspace_phantom.py --scans DIR [-o docs/img/kspace-phantom.png]

DIR holds kspace_phantom_2coils.npy, (lines, coils, samples), complex, DC in the middle, 3 T, gradient echo: the file
example_data/gre.dat inside the PyPI sdist twixtools 0.24 (MIT), without its read-out oversampling.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from invdiff import coilmaps

mpl.use("Agg")
import matplotlib.pyplot as plt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/img/kspace-phantom.png"))
    args = parser.parse_args()
    stored = np.load(args.scans / "kspace_phantom_2coils.npy")
    k = torch.fft.ifftshift(torch.from_numpy(stored).to(torch.complex64).movedim(1, 0), dim=(1, 2))[None]
    coils = torch.fft.fftshift(torch.fft.ifft2(k, norm="ortho"), dim=(2, 3))[0]
    maps = coilmaps.estimate(k, torch.ones(k.shape[2:], dtype=torch.bool), "espirit")
    maps = torch.fft.fftshift(maps, dim=(2, 3))[0]
    combined = (maps.conj() * coils).sum(0)
    rss = torch.linalg.vector_norm(coils, dim=0)
    inside = combined.abs() > 0
    correlation = np.corrcoef(rss[inside], combined.abs()[inside])[0, 1]
    print(f"kspace_phantom_2coils (split: demo): {int(inside.sum())} voxels have maps; magnitude against root sum of "
          f"squares there: correlation {correlation:.4f}")  # fmt: skip
    top = float(rss.quantile(0.999))
    panels = [
        ("root sum of squares", rss, "gray", (0, top)),
        ("coil 1", coils[0].abs(), "gray", (0, top)),
        ("coil 2", coils[1].abs(), "gray", (0, top)),
        ("ESPIRiT, magnitude", combined.abs(), "gray", (0, top)),
        ("ESPIRiT, phase", torch.where(inside, combined.angle(), torch.nan), "twilight", (-np.pi, np.pi)),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(12.5, 2.9), layout="constrained")
    for axis, (title, image, colours, limits) in zip(axes, panels, strict=True):
        axis.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1])
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(args.output, dpi=64)


if __name__ == "__main__":
    main()
