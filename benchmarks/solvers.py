"""What a solver costs besides its network, beside deepinv; and with the network, what a step costs.

    python benchmarks/solvers.py [--steps 50] [--network]

First the network replaced by one multiplication, batch 1 of 128 x 128, on inpainting and on 8-coil MRI: milliseconds a
step, medians over runs of a solver that alternate with those of its peers; deepinv's DPS as it comes, with a state of
float64, and told to take float32. Then, with --network, batch 8 with the prior that ships: a run against its network
calls alone, and the memory at its peak. deepinv's rows appear where it is installed.
"""

import argparse
import importlib
import resource
import statistics
import time

import torch
from common import header, table

from invdiff import coilmaps, registry
from invdiff.errors import CapabilityError
from invdiff.noise import GaussianNoise
from invdiff.operators import Coils, ComplexFromChannels, Mask, Sense
from invdiff.priors import Prior
from invdiff.priors.checkpoints import find, network_prior
from invdiff.priors.network import pick_dtype
from invdiff.problem import InverseProblem
from invdiff.solution import check_requirements, solve
from invdiff.space import Space

N = 128
FACTOR = 0.9
POINTS = ("adjoint", "direct", "cg", "tv", "wavelet")  # no network to replace


class Null(Prior):
    """One multiplication."""

    def __init__(self, space):
        super().__init__()
        self.space, self.sigma_min, self.sigma_max = space, 0.002, 20.0
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def denoise(self, x, sigma):
        del sigma
        return FACTOR * x


def physics():
    g = torch.Generator().manual_seed(0)
    pixels = torch.rand(N, N, generator=g) < 0.5
    plane, pair = Space((1, N, N)), Space((2, N, N))
    maps = coilmaps.simulate(8, (N, N), (1.0, 1.0), 0)
    entry = ComplexFromChannels(pair)
    lines = (torch.rand(N, generator=g) < 0.25)[:, None]
    mri = Sense(Coils(entry.range, maps), lines) @ entry
    return {"inpainting": Mask(plane, pixels), "MRI, 8 coils": mri}, pixels, lines, maps


def solvers(steps):
    for name, cls in registry.names("solvers").items():
        if name not in POINTS:
            yield name, cls(**{"iterations" if name == "pnp" else "steps": steps})


def fits(solver, problem, prior):
    try:
        check_requirements(solver, problem, prior)
    except CapabilityError:
        return False
    return True


def ours(A, steps):
    x = torch.randn(1, *A.domain.shape, generator=torch.Generator().manual_seed(1))
    problem, prior = InverseProblem(A, GaussianNoise(0.01), A(x)), Null(A.domain)
    for name, solver in solvers(steps):
        if fits(solver, problem, prior):
            yield name, lambda s=solver: solve(problem, prior, s, width=s.group)


def theirs(kind, pixels, lines, maps, steps):
    try:
        dinv = importlib.import_module("deepinv")
    except ImportError:
        print("deepinv is not installed: its columns are left out")
        return

    class Multiply(dinv.models.Denoiser):
        def forward(self, x, sigma=None, **_):
            del sigma
            return FACTOR * x

    noise = dinv.physics.GaussianNoise(0.01)
    if kind == "inpainting":
        A = dinv.physics.Inpainting(img_size=(1, N, N), mask=pixels[None].float(), noise_model=noise)
        x = torch.randn(1, 1, N, N)
    else:
        mask = lines.expand(N, N).float()
        A = dinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps[None], img_size=(2, N, N), noise_model=noise)
        x = torch.randn(1, 2, N, N)
    y, net = A(x), Multiply()
    sampling = dinv.sampling
    dps = sampling.DPS(net, num_steps=steps)  # its default state is float64
    single = sampling.DPS(net, num_steps=steps, dtype=torch.float32)
    pir = sampling.DiffPIR(net, dinv.optim.data_fidelity.L2(), sigma=0.01, max_iter=steps)
    runs = {"dps": lambda: dps(y, A, x_init=torch.randn_like(x)), "diffpir": lambda: pir(y, A)}
    runs["dps, float32"] = lambda: single(y, A, x_init=torch.randn_like(x))
    if kind == "inpainting":
        ddrm = sampling.DDRM(net, sigmas=torch.linspace(1, 0, steps + 1).numpy())
        runs["ddrm"] = lambda: ddrm(y, A)
    yield from runs.items()


def medians(runs, rounds):
    times = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            with torch.no_grad():
                run()
            if i:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(t) for name, t in times.items()}


def null_cost(steps, rounds):
    operators, pixels, lines, maps = physics()
    for kind, A in operators.items():
        mine, peer = dict(ours(A, steps)), dict(theirs(kind, pixels, lines, maps, steps))
        rows = []
        # Each beside its peers alone: what runs in between leaves its mark on memory and clock.
        for name, own in mine.items():
            peers = {key: peer[key] for key in (name, f"{name}, float32") if key in peer}
            found = medians({"own": own} | peers, rounds)
            beside = [found.get(key) for key in (name, f"{name}, float32")]
            cells = [[ms(t, steps), f"{t / found['own']:.1f}"] if t else [None, None] for t in beside]
            rows.append([name, ms(found["own"], steps), *cells[0], *cells[1]])
        columns = ["solver", "ms/step", "deepinv", "ratio", "in float32", "ratio"]
        table(f"{kind}, batch 1, the network one multiplication", columns, rows)


def ms(seconds, steps):
    return f"{1e3 * seconds / steps:.2f}"


def with_network(steps):
    space = Space((1, N, N))
    A = physics()[0]["inpainting"]
    net, _, _ = network_prior(find("brain-mr"), space, dtype=pick_dtype("auto", torch.device("cpu")))
    x, sigma = torch.randn(8, *space.shape), torch.full((8,), 0.1)
    problem = InverseProblem(A, GaussianNoise(0.01), A(x))
    rows = []
    for name, solver in solvers(steps):
        if not fits(solver, problem, net):
            continue
        # The network alone right before and after: the machine's own drift is larger than what is looked for.
        before = net.calls
        found = medians({"call": lambda: net.denoise(x, sigma), "run": lambda s=solver: solve(problem, net, s)}, 3)
        calls = (net.calls - before - 4) / 4
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ratio = found["run"] / (calls * found["call"])
        rows.append([name, f"{calls:.0f}", f"{1e3 * found['run'] / calls:.1f}", f"{ratio:.3f}", f"{peak:.0f}"])
    columns = ["solver", "calls", "ms/call", "run / calls", "peak MiB so far"]
    table("inpainting, batch 8, brain-mr", columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--network", action="store_true")
    args = parser.parse_args()
    header()
    null_cost(args.steps, args.rounds)
    if args.network:
        with_network(10)
