"""Help, info and flag errors are instant, because they import nothing heavy."""

import json
import os
import subprocess
import sys
import time
from importlib.resources import files

import pytest

from invdiff import __version__, catalogue

ENV = os.environ | {"OMP_NUM_THREADS": "1"}
PROBE = """
import sys
from invdiff_cli import main
sys.argv[0] = "invdiff"
try:
    main()
finally:
    print("HEAVY", *(m for m in ("torch", "scipy", "nibabel", "numpy", "h5py", "skimage") if m in sys.modules))
"""
RECONSTRUCT = ("reconstruct", "y.h5", "-o", "r.nii.gz")


def probe(*args):
    """Exit code, stdout, stderr and the heavy modules that were imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *args], env=ENV, capture_output=True, text=True, check=False, timeout=60
    )
    out, _, heavy = done.stdout.rpartition("HEAVY")
    return done.returncode, out, done.stderr, heavy.split()


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("info",),
        ("info", "diffpir"),
        ("info", "--json"),
        ("reconstruct", "--help"),
        ("plan", "--help"),
        ("--version",),
        ("compare", "--help"),
        ("evaluate", "--help"),
        ("prior", "--help"),
        ("prior", "convert", "--help"),
        ("sample", "--help"),
        ("report", "--help"),
        ("batch", "--help"),
        ("bids", "--help"),
        ("calibrate", "--help"),
        ("train", "prior", "--help"),
        ("import", "--help"),
        ("import", "twix", "--help"),
        ("import", "dicom", "--help"),
    ],
    ids=" ".join,
)
def test_help_and_info_import_nothing_heavy(args):
    code, out, err, heavy = probe(*args)
    assert (code, err, heavy) == (0, "", [])
    assert out.strip()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((*RECONSTRUCT, "--solver", "difpir"), "no solver 'difpir'; did you mean 'diffpir'?"),
        ((*RECONSTRUCT, "--set", "stpes=3"), "DiffPIR has no setting 'stpes'; did you mean 'steps'?"),
        ((*RECONSTRUCT, "--set", "zeta=-1"), "DiffPIR.zeta: Input should be greater than or equal to 0, got -1"),
        ((*RECONSTRUCT, "--set", "lam=-1"), "DiffPIR.lam: Input should be greater than 0, got -1"),
        ((*RECONSTRUCT, "--set", "steps=many"), "DiffPIR.steps: Input should be a valid integer, "),
        ((*RECONSTRUCT, "--set", "sampler=rk4"), "DiffPIR.sampler: Input should be 'ddim', 'dpm2m' or 'heun', got rk4"),
        ((*RECONSTRUCT, "--set", "tau=never"), "DiffPIR.tau: Input should be 'consistent' or 'constant', got never"),
        ((*RECONSTRUCT, "--set", "steps"), "--set takes KEY=VALUE, got 'steps'"),
        ((*RECONSTRUCT, "--steps", "0"), "DiffPIR.steps: Input should be greater than 0, got 0"),
        ((*RECONSTRUCT, "--solver", "adjoint", "--steps", "3"), "Adjoint has no setting 'steps'; it has none"),
        ((*RECONSTRUCT, "--samples", "0"), "--samples must be at least 1, got 0"),
        ((*RECONSTRUCT, "--dtype", "float33"), "--dtype 'float33' is unknown; did you mean 'float32'?"),
        (("reconstruct", "y.h5"), "no output; give -o recon.nii.gz"),
        (("reconstruct", "-o", "r.nii"), "no measurement; give a .h5 file, or a --config that names one"),
        (("reconstruct", "y.h5", "-o", "r.png"), "r.png: a volume is written as .nii or .nii.gz; choose one of"),
        (("info", "difpir"), "nothing is called 'difpir'; did you mean 'diffpir'?"),
        (("simulate", "mri", "v.nii", "-o", "y.h5", "--acceleration", "0.5"), "MRI.acceleration: Input should be"),
        (("simulate", "mri", "v.nii", "-o", "y.nii"), "y.nii: a measurement is written as .h5; choose this ending"),
        (("simulate", "inpaint", "v.nii", "-o", "y.h5", "--missing", "1"), "Inpaint.missing: Input should be less"),
        (("simulate", "ct", "v.nii", "-o", "y.h5", "--noise", "-0.1"), "noise must be a finite number >= 0, got -0.1"),
        (("simulate", "ct", "v.nii", "-o", "y.h5", "--noise", "loud"), "noise is a fraction such as 0.01 or 1%, got"),
        (("evaluate", "a.nii", "--reference", "b.nii", "--fail-under", "psnr"), "--fail-under takes METRIC=VALUE, got"),
        (("evaluate", "a.nii", "--reference", "b.nii", "--fail-under", "psnr=x"), "--fail-under takes one of psnr, s"),
        (("evaluate", "a.nii", "--reference", "b.nii", "--fail-under", "mse=1"), "--fail-under takes one of psnr, s"),
        (("train", "prior", "scans", "-o", "p.pt"), "p.pt: weights are written as .safetensors; choose this ending"),
        (("report", "demo", "-o", "r.htm"), "r.htm: a report is written as .html; choose this ending"),
        (("import", "twix", "meas.dat", "-o", "y.nii"), "y.nii: a measurement is written as .h5; choose this ending"),
        (("import", "dicom", "series", "-o", "y.h5"), "y.h5: a volume is written as .nii or .nii.gz; choose one of"),
        (("import", "nifti", "v.nii", "-o", "y.h5", "--acquisition", "lowers"), "did you mean 'lowres'?"),
        (
            ("reconstruct", "v.nii", "-o", "r.nii", "--acquisition", "lowres", "--set", "acquisition.factor=0"),
            "LowRes.factor: Input should be greater than or equal to 2, got 0",
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_a_wrong_flag_is_one_line_and_imports_nothing_heavy(args, message, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in refused(2, *args)


@pytest.mark.parametrize(
    "args",
    [
        (*RECONSTRUCT, "--set", "stpes=3"),
        ("plan", "y.h5", "--set", "stpes=3"),
        (*RECONSTRUCT, "--set", "lam=-1"),
        (*RECONSTRUCT, "--solver", "difpir"),
        (*RECONSTRUCT, "--samples", "0"),
        ("simulate", "mri", "v.nii", "-o", "y.h5", "--acceleration", "0.5"),
        ("simulate", "ct", "v.nii", "-o", "y.h5", "--noise", "-1"),
        ("evaluate", "a.nii", "--reference", "b.nii", "--fail-under", "mse=1"),
        ("compare", "a.tsv"),
        ("train", "prior", "scans", "-o", "p.pt"),
        ("report", "demo", "-o", "r.htm"),
        ("import", "cfl", "k", "-o", "y.h5", "--voxel", "1,2"),
        ("import", "nifti", "v.nii", "-o", "y.h5", "--acquisition", "lowres", "--set", "factor=0"),
        ("reconstruct", "y.h5", "-o", "r.nii", "--sigma", "1"),
    ],
    ids=" ".join,
)
def test_flag_errors_import_nothing_heavy(args):
    code, out, err, heavy = probe(*args)
    assert (code, out, heavy) == (2, "", [])
    assert err.count("\n") == 1
    assert err.startswith("invdiff: ConfigError: ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("simulate", "mri", "v.nii", "-o", "y.h5", "--accelaration", "3"), "No such option: --accelaration"),
        (("simulate", "mir", "v.nii", "-o", "y.h5"), "No such command 'mir'"),
        (("reconstrct",), "Did you mean 'reconstruct', 'report'?"),
        (("simulate", "ct", "v.nii", "-o", "y.h5", "--views", "few"), "Invalid value for '--views'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_flags_that_do_not_exist_are_usage_errors(args, message, cli):
    done = cli(*args)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "most"), [(("--help",), 2), ((*RECONSTRUCT, "--set", "stpes=3"), 4)], ids=["help", "a misspelt setting"]
)
def test_help_and_flag_errors_are_fast(args, most):
    """In units of what Typer itself takes; the least of five. A usual machine: 0.15 and 0.3 s, 0.1 of it Typer."""

    def seconds(*command):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], env=ENV, capture_output=True, check=False)
        return time.perf_counter() - began

    taken = [(seconds("-m", "invdiff_cli", *args), seconds("-c", "import typer")) for _ in range(5)]
    own, typer = map(min, zip(*taken, strict=True))
    print(f"invdiff {' '.join(args)}: {own:.3f} s (aim 0.2 s), {own / typer:.1f} times as long as typer alone")
    assert own < most * typer


def test_every_command_has_an_example(cli):
    acquisitions = [("simulate", name) for name in catalogue.load()["acquisitions"]]
    imports = [("import", k) for k in ("fastmri", "ismrmrd", "twix", "cfl", "sinogram", "nifti", "dicom")]
    for command in [
        ("demo",),
        ("reconstruct",),
        ("plan",),
        ("compare",),
        ("evaluate",),
        ("report",),
        ("batch",),
        ("bids",),
        ("calibrate",),
        ("info",),
        ("train", "prior"),
        *acquisitions,
        *imports,
    ]:
        done = cli(*command, "--help")
        assert done.code == 0
        assert f"Example: invdiff {' '.join(command)}" in done.out


def test_info_lists_what_there_is(cli):
    done = cli("info", "--json")
    listed = json.loads(done.out)
    assert {"adjoint", "cg", "tv", "dps", "diffpir"} <= set(listed["solvers"])
    assert {"mri", "ct", "blur", "lowres", "inpaint", "denoise"} <= set(listed["acquisitions"])
    assert "brain-mr" in listed["priors"]
    text = cli("info").out
    assert all(f"  {name} " in text for group in listed.values() for name in group)


def test_info_shows_each_entry_with_type_range_default_meaning_and_paper(cli):
    for group, entries in json.loads(cli("info", "--json").out).items():
        assert json.loads(cli("info", group, "--json").out) == {group: entries}
        for name, entry in entries.items():
            assert json.loads(cli("info", name, "--json").out) == entry
            text = cli("info", name.upper()).out
            for setting in entry.get("settings", []):
                assert f"  {setting['name']} = {setting['default']}  (" in text
                assert setting["doc"] in text
            assert entry.get("paper", "") in text
    assert "sampler = None  (ddim | dpm2m | heun)  " in cli("info", "diffpir").out
    assert "zeta = 1.0  (float, >= 0, <= 1)" in cli("info", "diffpir").out


def test_catalogue_is_current():
    text = (files("invdiff") / "catalogue.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(catalogue.generate())), "run python -m invdiff.catalogue"


def test_catalogue_defaults_pass_their_own_check():
    for group in ("solvers", "acquisitions"):
        for name, entry in catalogue.load()[group].items():
            defaults = {s["name"]: s["default"] for s in entry["settings"]}
            assert catalogue.check(group, name, defaults) == defaults
            strings = {k: str(v) for k, v in defaults.items()}
            assert catalogue.check(group, name, strings) == defaults


def test_version(cli):
    assert cli("--version").out == f"{__version__}\n"
