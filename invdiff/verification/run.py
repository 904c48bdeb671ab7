"""verify(): every operator family against its laws, every solver against posteriors that are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from invdiff import registry
from invdiff.bridges import Bridge
from invdiff.config import build, suggest
from invdiff.errors import ConfigError
from invdiff.priors import Prior
from invdiff.solution import solve
from invdiff.solvers import Solver
from invdiff.verification import operators
from invdiff.verification.expected import EXPECTED, Expected
from invdiff.verification.fixed_points import POINTS
from invdiff.verification.measures import Distance, distance
from invdiff.verification.problems import Known, known, volumes

SAMPLES = 400


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        operators: laws of each family.
        solvers: of each solver, what it gives, the settings it ran with, its documented bias, and a row per problem.
        seconds: it took.
        ok: whether all holds.
    """

    operators: dict[str, dict[str, Any]]
    solvers: dict[str, dict[str, Any]]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every row holds."""
        return all(row["ok"] for row in (*self.operators.values(), *self.solvers.values()))


def verify(names: Sequence[str] = (), *, progress: Callable[[str], None] | None = None) -> Verification:
    """Check the operators and solvers; about a minute.

    A sampler is compared with six closed-form posteriors by mean, standard deviation, chi2 and sliced Wasserstein
    distance; it holds when it is as near as its documented bias says. A point estimator is compared with its fixed
    point. A solver of another package that says nothing of its bias is held to that of an exact sampler; of its point
    estimators nothing is known, and they do not hold.

    Args:
        names: solvers; all by default, and the operators with them.
        progress: called with the name of what is checked next.

    Raises:
        ConfigError: an unknown solver.
    """
    began = time.perf_counter()
    everything = registry.names("solvers")
    for name in names:
        if name not in everything:
            raise ConfigError(f"no solver {name!r}{suggest(name, everything)}")
    laws: dict[str, dict[str, Any]] = {}
    if not names:
        for family, A in operators.families().items():
            found = operators.check(A)
            laws[family] = asdict(found) | {"ok": found.ok}
    rows = {}
    with one_thread():
        for name in names or sorted(everything):
            if progress:
                progress(name)
            rows[name] = check(everything[name])
    return Verification(laws, rows, time.perf_counter() - began)


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads only wait for each other on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check(cls: type[Solver[Any, Any, Any]]) -> dict[str, Any]:
    """One solver against all problems that its header admits."""
    name = cls.__name__.lower()
    if cls.gives == "point estimate":
        rows = {case: {"error": error, "tolerance": tolerance, "ok": error < tolerance}
                for case, (error, tolerance) in POINTS.get(name, dict)().items()}  # fmt: skip
        return {"gives": cls.gives, "problems": rows, "ok": bool(rows) and all(r["ok"] for r in rows.values())}
    expected = EXPECTED.get(name, Expected())
    solver: Solver[Any, Any, Any] = build(cls, expected.settings)
    cases = volumes() if cls.volumes else known()
    rows = {k.name: _row(k, prior, solver, expected) for k in cases if (prior := _admitted(k, solver))}
    ok = bool(rows) and all(row["ok"] for row in rows.values())
    return {"gives": cls.gives, "expected": asdict(expected), "nfe": solver.nfe, "problems": rows, "ok": ok}


def _admitted(k: Known, solver: Solver[Any, Any, Any]) -> Prior | Bridge | None:
    """The prior or bridge of a problem that the solver's header admits, if it does."""
    operator, noise, prior = solver.requirements()
    if not (isinstance(k.problem.operator, operator) and isinstance(k.problem.noise, noise)):
        return None
    return k.bridge if prior is Bridge else k.prior if isinstance(k.prior, prior) else None


def _row(k: Known, prior: Prior | Bridge, solver: Solver[Any, Any, Any], expected: Expected) -> dict[str, Any]:
    samples = solve(k.problem, prior, solver, seeds=range(SAMPLES), width=SAMPLES).samples[:, 0].flatten(1)
    found: Distance = distance(k, samples)
    return asdict(found) | {"ok": expected.holds(found)}
