"""`invdiff tune`: a solver's settings for a measurement, without the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from invdiff import catalogue
from invdiff.errors import ConfigError
from invdiff.files import check_outputs, is_prior_file
from invdiff.grids import candidates, parse
from invdiff_cli import runs
from invdiff_cli.flags import assignments


def tune(
    measurement: Annotated[Path, typer.Argument(help="Measurement file, .h5.", show_default=False)],
    solver: Annotated[str, typer.Option(help="Method; `invdiff info solvers` lists them.")] = "diffpir",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run file to write. [tuned.yaml beside the measurement]"),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=v1,v2",
            help="Values to try of a setting; repeatable, then all combinations. [five of the solver's main setting, "
            "from a quarter to four times its default]",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of all candidates; repeatable.")
    ] = None,
    prior: Annotated[
        str | None, typer.Option(help="A prior, or a .safetensors file. [as for reconstruct]", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="The solver's steps; levels of the --ladder.")] = None,
    slices: Annotated[int, typer.Option(help="Slices that are tried, evenly over the volume.", min=1)] = 4,
    samples: Annotated[int, typer.Option(help="Samples per slice, whose mean is scored.", min=1)] = 2,
    hold_out: Annotated[float, typer.Option(help="Fraction of the lines, views or elements that is held out.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the division and of the samples.")] = 0,
    ladder: Annotated[
        Path | None,
        typer.Option(
            help="Search the best --steps of --levels noise levels instead, write them to this .json, and a run file "
            "that uses them. Takes about --steps x --levels network calls. With --grid: after tuning.",
            show_default=False,
        ),
    ] = None,
    levels: Annotated[int, typer.Option(help="Levels that --ladder chooses from.", min=2)] = 40,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Network precision.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace existing outputs.")] = False,
) -> None:
    """Choose a solver's settings by what is left out of the measurement: lines of k-space, views, or else elements.

    Each candidate reconstructs a few slices from the rest, and is scored by the residual of what it has not seen, in
    units of the noise: 1 is as good as the noise lets it be. The best goes into a run file: `invdiff reconstruct
    --config tuned.yaml -o recon.nii.gz`.
    """
    name, pairs = solver.lower(), assignments(set_ or [])
    settings: dict[str, Any] = {k.removeprefix("solver."): v for k, v in pairs.items()}
    if steps is not None:
        settings["steps"] = steps
    settings = catalogue.check("solvers", name, settings)
    values = parse(assignments(grid or [], "--grid KEY=v1,v2"))
    searching = ladder is not None
    if searching:
        _check_ladder(name, ladder, settings, levels)
    tries = [settings] if searching and not values else candidates(name, settings, values)
    if not 0 < hold_out < 1:
        raise ConfigError(f"--hold-out lies between 0 and 1, got {hold_out:g}")
    output = output or measurement.with_name("tuned.yaml")
    if output.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{output}: a run file is written as .yaml; choose this ending")
    check_outputs([output, *([ladder] if ladder else [])], force=force)
    where = {"prior": prior, "slices": slices, "device": device, "dtype": dtype}
    how = {"samples": samples, "fraction": hold_out, "seed": seed}
    bench, chosen = _tuned(measurement, name, tries, where, how)
    if ladder is not None:
        chosen = chosen | _laddered(bench, name, chosen, ladder, levels)
    _write(output, measurement, name, chosen, prior, bench.prior_sha256)
    print(f"wrote {output}; use it with: invdiff reconstruct --config {output} -o recon.nii.gz")


def _check_ladder(name: str, ladder: Path | None, settings: dict[str, Any], levels: int) -> None:
    known = {s["name"] for s in catalogue.find("solvers", name)["settings"]}
    if "ladder" not in known:
        raise ConfigError(f"{name} walks down no noise ladder; --ladder is for solvers with the setting `ladder`")
    if "steps" not in settings:
        raise ConfigError("--ladder needs the number of its levels; give --steps")
    if settings["steps"] > levels:
        raise ConfigError(f"--levels {levels} are fewer than --steps {settings['steps']}; raise --levels")
    if ladder is not None and ladder.suffix != ".json":
        raise ConfigError(f"{ladder}: a ladder is written as .json; choose this ending")


def _tuned(
    source: Path, name: str, tries: list[dict[str, Any]], where: dict[str, Any], how: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The bench, and the settings of the best candidate; prints their table."""
    from invdiff import config, measurements, registry, tuning
    from invdiff_cli.progress import progress

    cls = registry.find("solvers", name)
    solvers: list[Any] = [config.build(cls, settings) for settings in tries]
    bench = tuning.prepare(measurements.load(source), solvers[0], **where)
    if len(solvers) == 1:
        return bench, tries[0]
    rows = len(bench.slices) * (how["samples"] if solvers[0].draws else 1)
    chunks = -(-rows // bench.width)
    with progress(f"{name}, {len(solvers)} candidates", chunks * sum(s.length for s in solvers)) as tick:
        found = tuning.tune(bench, solvers, **how, callback=tick)
    best = found.best
    parts = found.split
    print(f"{parts.held_groups} of {parts.groups} {parts.kind} held out; slices {', '.join(map(str, bench.slices))}")
    print(_table(found, tries))
    return bench, tries[next(i for i, t in enumerate(found.trials) if t is best)]


def _table(found: Any, tries: list[dict[str, Any]]) -> str:  # noqa: ANN401 - torch is imported only with the work
    """A line per candidate: the settings in which they differ, score, seconds."""
    keys = [k for k in tries[0] if len({str(t[k]) for t in tries}) > 1]
    score = "held-out chi2" if found.noise_units else "held-out residual^2 / y^2"
    lines = [[*keys, score, "seconds", ""]]
    for settings, trial in zip(tries, found.trials, strict=True):
        shown = "diverged" if trial.score == float("inf") else f"{trial.score:.4g}"
        values = [f"{settings[k]:g}" if isinstance(settings[k], float) else str(settings[k]) for k in keys]
        lines.append([*values, shown, f"{trial.seconds:.1f}", "best" if trial is found.best else ""])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _laddered(bench: Any, name: str, settings: dict[str, Any], path: Path, levels: int) -> dict[str, Any]:  # noqa: ANN401
    """Search and save a ladder; the settings that go with it."""
    from invdiff import config, registry, stepsizes, tuning
    from invdiff_cli.progress import progress

    walk = {"sampler": "ddim", "zeta": 0.0}  # what a ladder is searched for: first order, deterministic
    known = {s["name"]: s for s in catalogue.find("solvers", name)["settings"]}
    settings = settings | {k: v for k, v in walk.items() if "sampler" in known and k in known}
    solver: Any = config.build(registry.find("solvers", name), settings)
    steps = settings["steps"]
    with progress(f"{name}, {steps} of {levels} levels", stepsizes.calls(levels, steps)) as tick:
        found = tuning.search_ladder(bench, solver, steps, levels=levels, callback=tick)
    own = {k: v for k, v in settings.items() if k != "ladder"}
    stepsizes.save(path, found, prior_sha256=bench.prior_sha256, solver=name, settings=own)
    gain = f"{found.cost:.3g}; of evenly spaced levels {found.even:.3g}"
    print(f"mean squared distance of {steps} levels from {levels}: {gain}")
    print(f"wrote {path}")
    return settings | {"ladder": str(path)}


def _write(
    path: Path, source: Path, name: str, settings: dict[str, Any], prior: str | None, checksum: str | None
) -> None:
    content: dict[str, Any] = {"solver": name}
    if prior is not None and checksum is not None:
        seen = f"./{runs.relative(Path(prior), path.parent)}" if is_prior_file(prior) else prior
        content |= {"prior": seen, "prior_sha256": checksum}
    content["settings"] = settings
    content |= runs.record_files(content, path.parent)
    runs.write_run(path, content, source, path.parent)
