"""Whether this installation works, in a few seconds: one test of each thing that a reconstruction needs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from invdiff.acquisitions import MRI
from invdiff.errors import FileError
from invdiff.files import sha256, write_atomic
from invdiff.library import find
from invdiff.priors import checkpoints
from invdiff.reconstruction import WELL_FITTED, reconstruct
from invdiff.simulation import simulate
from invdiff.solvers import DiffPIR
from invdiff.verification import operators
from invdiff.volumes import Volume

PRIOR = "brain-mr"
BLOCK = (64, 64, 2)  # voxels that are reconstructed


@dataclass(frozen=True)
class Result:
    """One test: what was found; ok is None where it was not run, because the time was over."""

    name: str
    found: str
    ok: bool | None
    seconds: float


def run(scan: Volume, *, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> Iterator[Result]:
    """Run the tests one by one; none starts once the time is over.

    Args:
        scan: a volume of at least 64 x 64 x 2 voxels.
        seconds: for all tests.
        clock: seconds.
    """
    tests = {
        "operators": _operators,
        f"network of {PRIOR}": _network,
        "reconstruction": lambda: _reconstruction(scan),
        "writing": _writing,
    }
    began = clock()
    for name, test in tests.items():
        start = clock()
        if start - began > seconds:
            yield Result(name, f"not run, {seconds:g} s were over", None, 0.0)
            continue
        try:
            ok, found = test()
        except Exception as e:  # whatever it is, it is what is to be found out
            ok, found = False, f"{type(e).__name__}: {e}"
        yield Result(name, found, ok, clock() - start)


def _operators() -> tuple[bool, str]:
    """Adjoint and gradient of MRI and CT."""
    families = operators.families()
    laws = {name: operators.check(families[name]) for name in ("cartesian mri, 4 coils", "parallel-beam ct")}
    worst = max(law.adjoint for law in laws.values())
    return all(
        law.ok for law in laws.values()
    ), f"<Ax, y> and <x, A^H y> of MRI and CT differ by {worst:.0e} of |Ax||y|"


def _network() -> tuple[bool, str]:
    """A forward call, compared with the reference of the card; raises PriorError if it differs."""
    card = checkpoints.verify(find(PRIOR))
    return True, f"answers as its card says, {len(card.reference)} numbers"


def _reconstruction(scan: Volume) -> tuple[bool, str]:
    """4x undersampled MRI of a block from the middle of the scan; an exact sample has a chi2 of 1."""
    start = [(n - m) // 2 for n, m in zip(scan.data.shape[1:], BLOCK, strict=True)]
    y = simulate(scan.crop(start, BLOCK), MRI(), noise=0.01, seed=0)
    facts = reconstruct(y, DiffPIR(), seeds=(0,)).facts
    chi2 = float(facts["data_fit"]["first_sample"]["chi2"])
    low, high = WELL_FITTED
    return low < chi2 < high, f"chi2 {chi2:.2f}, to be within {low:g} and {high:g}"


def _writing() -> tuple[bool, str]:
    """A file is written whole, and one whose writing fails is left as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write_atomic(path, lambda p: _fill(p, b"first"))
        before = sha256(path)
        try:
            write_atomic(path, lambda p: _fill(p, b"second", fails=True))
        except FileError:
            pass
        kept = sha256(path) == before and len(list(path.parent.iterdir())) == 1
    return kept, "whole or not at all" if kept else "a write that failed left its traces"


def _fill(path: Path, content: bytes, *, fails: bool = False) -> None:
    path.write_bytes(content)
    if fails:
        raise OSError("as it is meant to")
