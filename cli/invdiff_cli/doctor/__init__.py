"""`invdiff doctor`: whether this computer and this installation are fit, and what to do where they are not."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from invdiff.errors import GateError
from invdiff_cli.doctor.finding import PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10.0


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    test: Annotated[bool, typer.Option("--test/--no-test", help="Run the self-test, of at most 10 seconds.")] = True,
) -> None:
    """Look at versions, processor, memory, devices, extras, priors, cache and data, and try out what matters.

    Each line: what, what was found, and where something is to be done what that is. Exit code 0 if there are no
    problems, whatever the warnings; else 8.
    """
    found: list[Finding] = []
    group = ""
    for finding in _all(test):
        found.append(finding)
        if not json:
            if finding.group != group:
                print(f"{'' if not group else chr(10)}{finding.group}")
                group = finding.group
            print(_line(finding), flush=True)
    problems = [f.name for f in found if f.state == PROBLEM]
    warnings = sum(f.state == WARNING for f in found)
    if json:
        document = {"ok": not problems, "warnings": warnings, "findings": [asdict(f) for f in found]}
        print(json_module.dumps(document, indent=2))
    else:
        print(f"\n{len(problems)} problems, {warnings} warnings; research use only")
    if problems:
        raise GateError(f"not well: {', '.join(problems)}; see the report")


def _all(test: bool) -> Iterator[Finding]:
    from invdiff_cli.doctor import machine, software, stores

    yield from software.findings()
    yield from machine.findings()
    yield from stores.findings()
    if test:
        yield from _selftest()


def _selftest() -> Iterator[Finding]:
    from invdiff import selftest
    from invdiff_datasets import epi_2mm

    group = f"self-test, {SECONDS:g} s at most"
    for result in selftest.run(epi_2mm(), seconds=SECONDS):
        found = f"{result.found} ({result.seconds:.1f} s)" if result.ok is not None else result.found
        if result.ok:
            yield Finding(group, result.name, found)
        elif result.ok is None:
            yield Finding(group, result.name, found, WARNING, "run invdiff doctor again when the computer is idle")
        else:
            yield Finding(group, result.name, found, PROBLEM, "install invdiff again; `invdiff verify` tells more")


def _line(finding: Finding) -> str:
    todo = f"; {finding.todo}" if finding.todo else ""
    return f"  {finding.state:7}  {finding.name}: {finding.found}{todo}"
