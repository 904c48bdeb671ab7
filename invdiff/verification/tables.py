"""What `verify` found, as text for a terminal and as the tables of docs/solvers.md.

`python -m invdiff.verification.tables docs/solvers.md` (or `make solvers`) writes them there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from invdiff import catalogue
from invdiff.verification.run import Verification, verify

BEGIN, END = "<!-- table: make solvers -->\n", "<!-- end -->"
DISTANCES = ("mean", "std", "chi2", "wasserstein")
Row = dict[str, Any]


def text(found: Verification) -> str:
    """One line for each check."""
    lines = []
    for name, row in found.operators.items():
        laws = f"adjoint {row['adjoint']:.0e}, gradient {row['gradient']:.0e}, norm {row['norm']:.0e}"
        lines.append(f"{_sign(row)}  {name:24}  {laws}")
    for name, row in found.solvers.items():
        lines += [f"{_sign(r)}  {name:10} {case:20}  {_numbers(r)}" for case, r in row["problems"].items()]
    lines.append(f"{'all hold' if found.ok else 'NOT as documented'}; {found.seconds:.0f} s")
    return "\n".join(lines)


def markdown(found: Verification) -> str:
    """Two tables: samplers with the range of each distance, point estimators with the largest error."""
    samplers = {n: r for n, r in found.solvers.items() if r["gives"] == "sample"}
    points = {n: r for n, r in found.solvers.items() if r["gives"] != "sample"}
    lines = ["| solver | needs | calls | mean | std | chi2 | Wasserstein | why |", "|---|---|---|---|---|---|---|---|"]
    for name, row in sorted(samplers.items(), key=lambda item: worst(item[1], "wasserstein")):
        cells = [_range(row, d) for d in DISTANCES]
        lines.append(f"| {name} | {needs(name)} | {row['nfe']} | {' | '.join(cells)} | {row['expected']['remark']} |")
    lines += ["", "| point estimator | needs | error of its fixed point |", "|---|---|---|"]
    lines += [f"| {n} | {needs(n)} | {worst(r, 'error'):.0e} |" for n, r in points.items()]
    return "\n".join(lines)


def needs(name: str) -> str:
    """What a solver asks of operator and prior, in a few words."""
    need = catalogue.find("solvers", name)["needs"]
    words = {"Operator": "any operator", "LinearOperator": "linear", "SVDOperator": "SVD", "Identity": "denoising"}
    known = {"Prior": "", "Bridge": ", a bridge"}.get(need.get("prior", ""), ", no prior")
    return words.get(need["operator"], need["operator"]) + known


def worst(row: Row, distance: str) -> float:
    """The largest of all problems."""
    return max(r[distance] for r in row["problems"].values())


def _range(row: Row, distance: str) -> str:
    values = [r[distance] for r in row["problems"].values()]
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _numbers(row: Row) -> str:
    if "error" in row:
        return f"error {row['error']:.1e} (tolerance {row['tolerance']:.0e})"
    return ", ".join(f"{d} {row[d]:.3f}" for d in DISTANCES)


def _sign(row: Row) -> str:
    return "ok " if row["ok"] else "BAD"


def write(path: Path, found: Verification) -> None:
    """Put the tables between the marks of a page."""
    text = path.read_text()
    first, last = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(text[:first] + markdown(found) + "\n" + text[last:])


if __name__ == "__main__":
    write(Path(sys.argv[1]), verify())
