"""Multi-coil Cartesian MRI: A and A^H against deepinv's MultiCoilMRI, which shifts at each call.

    python benchmarks/multicoil.py [--rounds 15]

Medians over interleaved rounds in ms, complex64; results are compared first.
"""

import argparse
import importlib
import statistics
import time

import torch
from common import header, table

from invdiff import coilmaps
from invdiff.operators import Coils, ComplexFromChannels, Sense
from invdiff.space import Space

CASES = [(320, 8, 1), (320, 8, 8), (320, 16, 1)]  # side, coils, batch


def corner(a):
    """From the middle to index 0."""
    return torch.fft.ifftshift(a, dim=(-2, -1))


def deepinv(n, mask, maps):
    peer = importlib.import_module("deepinv")
    physics = peer.physics.MultiCoilMRI(mask=mask.float(), coil_maps=maps[None], img_size=(2, n, n))
    return physics.A, physics.A_adjoint


def centred(n, mask, maps):
    """The same by hand, with the shifts that centred conventions ask for."""

    def A(x):
        z = torch.complex(x[:, :1], x[:, 1:]) * maps
        z = torch.fft.ifftshift(z, dim=(-2, -1))
        k = torch.fft.fftshift(torch.fft.fft2(z, norm="ortho"), dim=(-2, -1)) * mask
        return torch.view_as_real(k).movedim(-1, 1)

    def adjoint(y):
        k = torch.view_as_complex(y.movedim(1, -1).contiguous()) * mask
        z = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))
        z = (z * maps.conj()).sum(1)
        return torch.stack([z.real, z.imag], 1)

    return A, adjoint


def case(n, coils, batch, rounds):
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(n, generator=g) < 0.25)[:, None].expand(n, n)
    maps = coilmaps.simulate(coils, (n, n), (1.0, 1.0), 0)
    coils = Coils(Space((1, n, n), torch.complex64), corner(maps))
    A = Sense(coils, corner(mask)) @ ComplexFromChannels(Space((2, n, n)))
    x = torch.randn(batch, 2, n, n, generator=g)
    y = A(x)
    runs = {"invdiff": (lambda: A(x), lambda: A.adjoint(y))}
    for name, make in (("deepinv", deepinv), ("shifted by hand", centred)):
        try:
            forward, adjoint = make(n, mask, maps)
        except ImportError as e:
            print(f"{name} is left out: {e}")
            continue
        ours = torch.fft.fftshift(A.A.mask.adjoint(A(corner(x))), dim=(-2, -1))
        theirs = forward(x)
        off = (torch.view_as_real(ours).movedim(-1, 1) - theirs).norm() / theirs.norm()
        assert float(off) < 1e-5, f"{name} computes something else: {float(off):.1e}"
        runs[name] = (lambda f=forward: f(x), lambda a=adjoint, t=theirs: a(t))
    times = {name: ([], []) for name in runs}
    for i in range(rounds + 1):
        for name, both in runs.items():
            for side, run in enumerate(both):
                began = time.perf_counter()
                run()
                if i:
                    times[name][side].append(1e3 * (time.perf_counter() - began))
    ms = {name: [statistics.median(t) for t in both] for name, both in times.items()}
    for name, (a, b) in ms.items():
        ratios = (a / ms["invdiff"][0], b / ms["invdiff"][1])
        yield [f"{coils} x {n}^2", batch, name, f"{a:.1f}", f"{b:.1f}", *(f"{r:.1f}" for r in ratios)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    header()
    rows = [row for c in CASES for row in case(*c, args.rounds)]
    table("multi-coil FFT", ["coils", "batch", "", "A, ms", "A^H, ms", "ratio", "ratio"], rows)
