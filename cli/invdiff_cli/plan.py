"""`invdiff plan`: what a reconstruction would take, before it starts."""

from __future__ import annotations

import inspect
import json as json_module
import shlex
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from invdiff_cli.reconstruct import reconstruct
from invdiff_cli.settled import prepared, settled

if TYPE_CHECKING:
    from invdiff.plan import Plan

OF_OUTPUT = {"output": None, "save_steer": False, "save_samples": False, "force": False, "checkpoint_minutes": None}
OF_OUTPUT |= dict.fromkeys(("quantiles", "exceed", "calibration"))
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


def plan(json: bool, **given: Any) -> None:  # noqa: ANN401 - the flags of `reconstruct`
    """Say what `reconstruct` with the same flags would take: memory and time of each stage, and what would be chosen.

    The solver runs two noise levels without the network, which is called by itself; nothing is written. Where nothing
    fits the exit code is 6.
    """
    source, run = settled(given | OF_OUTPUT)
    from invdiff.preparation import planned

    measured, method, where = prepared(source, run)
    found = planned(measured, method, gb=given["mem_gb"], kept=False, **where)
    seen = measured.as_volumes() if "planes" in run else measured
    content = _content(found, command(given), volumes=seen.volumetric)
    print(json_module.dumps(content, indent=2) if json else _table(content))


def _flags() -> inspect.Signature:
    """Those of `reconstruct`, but for what it writes."""
    hints = get_type_hints(reconstruct, include_extras=True)
    flags = [p for name, p in inspect.signature(reconstruct).parameters.items() if name not in OF_OUTPUT]
    flags = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in flags]
    json = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    return inspect.Signature([*flags, json])


FLAGS = _flags()
plan.__signature__ = FLAGS  # type: ignore[attr-defined]
plan.__annotations__ = {p.name: p.annotation for p in FLAGS.parameters.values()}


def command(given: dict[str, Any]) -> str:
    """The command line of the reconstruction."""
    words = ["invdiff", "reconstruct", *([str(given["measurement"])] if given["measurement"] else [])]
    words += ["-o", "recon.nii.gz"]
    for name, value in given.items():
        flag = f"--{name.rstrip('_').replace('_', '-')}"
        if name == "measurement" or value is None or (value is False and name != "steer"):
            continue
        if isinstance(value, bool):
            words.append(flag if value else "--no-steer")
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [flag, str(one)]
    return shlex.join(words)


def _content(found: Plan, line: str, *, volumes: bool) -> dict[str, Any]:
    from invdiff.memory import MIB
    from invdiff.plan import told

    stages = [{"stage": s.name, "mib": round(s.bytes / MIB), "seconds": s.seconds} for s in found.stages]
    facts = found.facts()
    return {
        "stages": stages,
        "peak_mib": facts["predicted_mib"],
        "available_mib": facts["available_mib"],
        "seconds": found.seconds,
        "network_calls": found.calls,
        "uses": told(found.way, volumes=volumes) if found.calls else "no network",
        **{k: facts[k] for k in ("width", "slices", "window", "dtype")},
        "command": line,
    }


def _table(content: dict[str, Any]) -> str:
    """A line per stage; the peak is no sum, since stages come one after the other."""
    lines = [(s["stage"], f"{s['mib']}", _time(s["seconds"])) for s in content["stages"]]
    lines = [("", "MiB", "time"), *lines, ("peak, all of it", f"{content['peak_mib']}", _time(content["seconds"]))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in lines]
    return "\n".join(
        [*rows, f"available: {content['available_mib']} MiB", f"uses: {content['uses']}", f"run: {content['command']}"]
    )


def _time(seconds: float) -> str:
    """12 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
