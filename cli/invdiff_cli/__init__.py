"""The command line of invdiff: arguments in, files out; no maths."""


def main() -> None:
    """Entry point of `invdiff` and of `python -m invdiff_cli`."""
    from invdiff_cli.app import app

    app()
