"""`invdiff verify`: whether this installation computes what it says."""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated, Any

import typer

from invdiff.errors import GateError


def verify(
    solver: Annotated[
        list[str] | None, typer.Option(help="Verify this solver only; repeatable.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of the documentation.")] = False,
) -> None:
    """Hold operators to their laws, and solvers to posteriors that are known in closed form.

    Six problems: denoising, blur, inpainting and MRI of 8 x 8 voxels, with a Gaussian prior and a mixture of two. Of
    400 samples: the error of their mean (in posterior standard deviations), their standard deviation and chi2 (each
    divided by the posterior's), and the sliced Wasserstein distance. A sampler holds when it is within its documented
    bias, a point estimator when it ends at its fixed point. Exit code 0 only if all hold, else 8.
    """
    from invdiff.verification import tables
    from invdiff.verification import verify as run

    quiet = json or markdown
    found = run(
        [s.lower() for s in solver or []],
        progress=None if quiet or not sys.stderr.isatty() else lambda name: print(f"  {name} ...", file=sys.stderr),
    )
    if json:
        print(json_module.dumps(_document(found), indent=2))
    else:
        print(tables.markdown(found) if markdown else tables.text(found))
    if not found.ok:
        bad = [name for part in (found.operators, found.solvers) for name, row in part.items() if not row["ok"]]
        raise GateError(f"not as documented: {', '.join(bad)}")


def _document(found: Any) -> dict[str, Any]:  # noqa: ANN401 - torch is imported only once the work begins
    return {"ok": found.ok, "seconds": found.seconds, "operators": found.operators, "solvers": found.solvers}
