"""The Typer app. Command modules import torch only once their work begins, so help and flag errors are instant."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from invdiff import __version__
from invdiff.errors import InvdiffError
from invdiff_cli import (
    calibrate,
    compare,
    data,
    demo,
    denoise,
    doctor,
    evaluate,
    evaluate_dwi,
    import_,
    info,
    plan,
    prior,
    reconstruct,
    sample,
    simulate,
    train,
    tune,
    verify,
)
from invdiff_cli.batch import commands as batch
from invdiff_cli.report import command as report


class Guarded(TyperGroup):
    """Turns invdiff's own errors into one line and their exit code; anything else is a bug and keeps its traceback."""

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


app.command("demo", epilog="Example: invdiff demo -o demo")(demo.demo)
app.add_typer(simulate.app, name="simulate")
app.add_typer(import_.app, name="import")
app.command("reconstruct", epilog="Example: invdiff reconstruct y.h5 -o recon.nii.gz --samples 8")(
    reconstruct.reconstruct
)
app.command("plan", epilog="Example: invdiff plan y.h5 --planes 2,0 --mem-gb 8")(plan.plan)
app.command("evaluate", epilog="Example: invdiff evaluate recon.nii.gz --reference truth.nii.gz --fail-under psnr=30")(
    evaluate.evaluate
)
app.command("compare", epilog="Example: invdiff compare tv.tsv diffpir.tsv --metric psnr --metric hfen")(
    compare.compare
)
app.command("calibrate", epilog="Example: invdiff calibrate recon.nii.gz --reference truth.nii.gz -o calibration.json")(
    calibrate.calibrate
)
app.command("denoise", epilog="Example: invdiff denoise dwi.nii.gz -o clean.nii.gz --bval dwi.bval --bvec dwi.bvec")(
    denoise.denoise
)
app.command(
    "evaluate-dwi", epilog="Example: invdiff evaluate-dwi clean.nii.gz --raw dwi.nii.gz --reference truth.nii.gz"
)(evaluate_dwi.evaluate_dwi)
app.command("batch", epilog="Example: invdiff batch scans/ -o out --acquisition mri --set acquisition.acceleration=4")(
    batch.batch
)
app.command("bids", epilog="Example: invdiff bids ds out participant --participant-label 01 --acquisition mri")(
    batch.bids
)
app.command("report", epilog="Example: invdiff report demo -o report.html")(report.report)
app.command("tune", epilog="Example: invdiff tune y.h5 --solver tv -o tuned.yaml")(tune.tune)
app.add_typer(data.app, name="data")
app.command("doctor", epilog="Example: invdiff doctor")(doctor.doctor)
app.command("info", epilog="Example: invdiff info diffpir")(info.info)
app.add_typer(train.app, name="train")
app.add_typer(prior.app, name="prior")
app.command("sample", epilog="Example: invdiff sample brain-mr -o samples.png")(sample.sample)
app.command("verify", epilog="Example: invdiff verify --solver mmps")(verify.verify)
