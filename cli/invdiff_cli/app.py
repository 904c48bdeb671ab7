"""The Typer app. Commands are imported when they are called, and torch once their work begins: help is instant."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from invdiff import __version__
from invdiff.errors import InvdiffError
from invdiff_cli.commands import TABLE, Commands


class Guarded(TyperGroup):
    """Turns invdiff's own errors into one line and their exit code; anything else is a bug and keeps its traceback."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - of Typer
        super().__init__(**attributes)
        self.commands = Commands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, D102 - as below
        return list(TABLE)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, D102 - as below
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in TABLE.items()])

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401, D102 - Typer's vendored click has no public types
        try:
            return super().invoke(ctx)
        except InvdiffError as e:
            print(f"invdiff: {type(e).__name__}: {e}", file=sys.stderr)
            raise SystemExit(e.exit_code) from None
        except MemoryError:
            print("invdiff: out of memory; use a smaller volume", file=sys.stderr)
            raise SystemExit(6) from None
        except KeyboardInterrupt:
            print("invdiff: interrupted; nothing was written", file=sys.stderr)
            raise SystemExit(130) from None


app = typer.Typer(
    cls=Guarded,
    name="invdiff",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Reconstruct medical scans that are undersampled, noisy, blurred or coarse, with an honest uncertainty. "
    "Research use only.",
    epilog="Exit codes: 0 ok, 1 a bug, 2 usage or an output that exists, 3 some scans of a batch failed, 4 bad file or "
    "geometry, 5 prior missing or unfit, 6 out of memory, 7 diverged, 8 a gate failed, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    del version
