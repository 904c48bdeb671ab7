"""What a solver costs besides its network: time per step with the network replaced by one multiplication.

    python benchmarks/overhead.py

Batch 8 of 128 x 128 slices, ratios within one run: total time of a run against its network calls alone.
"""

import statistics
import time

import torch
from common import header, table

from invdiff.noise import GaussianNoise
from invdiff.operators import Mask, UndersampledFourier
from invdiff.priors import GaussianPrior
from invdiff.priors.checkpoints import find, network_prior
from invdiff.priors.network import pick_dtype
from invdiff.problem import InverseProblem
from invdiff.solve import solve
from invdiff.solvers import DPS, DiffPIR
from invdiff.space import Space

SPACE = Space((1, 128, 128))


def timed(run, repeats=5):
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    header()
    lines = (torch.arange(128) % 4 == 0)[:, None]
    pixels = torch.rand(128, 128, generator=torch.Generator().manual_seed(0)) < 0.5
    physics = {"mri4": UndersampledFourier(SPACE, lines), "inpaint": Mask(SPACE, pixels)}
    dtype = pick_dtype("auto", torch.device("cpu"))
    net, _, _ = network_prior(find("brain-mr"), SPACE, dtype=dtype)
    null = GaussianPrior(torch.zeros(SPACE.shape), torch.tensor(1.0))
    x, sigma = torch.randn(8, *SPACE.shape), torch.full((8,), 0.1)
    with torch.no_grad():
        call = timed(lambda: net.denoise(x, sigma))
    rows = []
    for name, A in physics.items():
        problem = InverseProblem(A, GaussianNoise(0.01), A(x))
        for solver in (DiffPIR(steps=20), DPS(steps=20)):
            own = timed(lambda s=solver, p=problem: solve(p, null, s)) / 20
            full = timed(lambda s=solver, p=problem: solve(p, net, s), 3) / 20
            ratio = f"{full / call:.3f}" if isinstance(solver, DiffPIR) else "-"
            rows.append([f"{type(solver).__name__}, {name}", f"{1e3 * own:.2f}", f"{1e3 * full:.1f}", ratio])
    columns = ["solver, batch 8", "null ms/step", "ms/step", "step / network call"]
    table(f"one network call of 8: {1e3 * call:.1f} ms", columns, rows)
