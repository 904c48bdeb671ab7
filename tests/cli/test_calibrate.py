"""Quantiles, exceedance maps and calibrations of real small reconstructions: files, records, tables, refusals."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from scipy.stats import t

from invdiff import calibration, volumes
from invdiff_cli.app import app

QUICK = ("--steps", 2, "--samples", 2)


@pytest.fixture(scope="session")
def done(measured, small_volume, tmp_path_factory):
    """A reconstruction with intervals, its truth and a calibration learned from both; not to be changed."""
    folder = tmp_path_factory.mktemp("calibrated")
    shutil.copy(measured, folder / "y.h5")
    shutil.copy(small_volume, folder / "truth.nii.gz")
    made = ("reconstruct", folder / "y.h5", "-o", folder / "r.nii.gz", *QUICK, "--quantiles", "0.95,0.05,0.5")
    learned = ("calibrate", folder / "r.nii.gz", "--reference", folder / "truth.nii.gz", "-o", folder / "c.json")
    for command in ((*made, "--exceed", "300,-1.5"), learned):
        with pytest.raises(SystemExit) as e:
            app([str(word) for word in command])
        assert not e.value.code
    return folder


@pytest.fixture
def here(done, tmp_path, monkeypatch):
    """A copy of it to work in, as the current folder."""
    for path in done.iterdir():
        shutil.copy(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(path):
    return volumes.load(path).data.double().numpy()


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_maps_are_the_law_of_mean_and_spread(done):
    mean, std = load(done / "r.nii.gz"), load(done / "r_std.nii.gz")
    spread = std * 0.5**0.5  # a pair of opposite noise: one degree of freedom
    np.testing.assert_allclose(load(done / "r_q05.nii.gz"), mean - t.ppf(0.95, 1) * spread, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(load(done / "r_q95.nii.gz"), mean + t.ppf(0.95, 1) * spread, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(load(done / "r_q50.nii.gz"), mean)
    above = load(done / "r_above-300.nii.gz")
    np.testing.assert_allclose(above, t.sf((300 - mean) / spread, 1), atol=1e-5)
    assert above.min() < 0.1
    assert above.max() > 0.9
    assert load(done / "r_above--1.5.nii.gz").min() > 0.5


def test_the_records(done):
    facts = json.loads((done / "r.json").read_text())
    names = {p.name for p in done.glob("r*.nii.gz")}
    assert {n: sha(done / n) for n in names} == facts["output_sha256"]
    assert names == {
        "r.nii.gz", "r_std.nii.gz", "r_q05.nii.gz", "r_q50.nii.gz", "r_q95.nii.gz", "r_above-300.nii.gz",
        "r_above--1.5.nii.gz",
    }  # fmt: skip
    told = facts["intervals"]
    assert told["law"] == {"kind": "student", "freedom": 1.0, "scale": pytest.approx(0.5**0.5), "floor": 0.0}
    assert told["quantiles"] == {"r_q05.nii.gz": 0.05, "r_q50.nii.gz": 0.5, "r_q95.nii.gz": 0.95}
    assert told["exceed"] == {"r_above--1.5.nii.gz": -1.5, "r_above-300.nii.gz": 300.0}
    assert (told["calibrated"], told["calibration"]) == (False, None)
    run = yaml.safe_load((done / "r.run.yaml").read_text())
    assert (run["quantiles"], run["exceed"]) == ([0.05, 0.5, 0.95], [-1.5, 300.0])


def test_without_the_flags_nothing_is_said(y, tmp_path, cli):
    assert cli("reconstruct", y, "-o", tmp_path / "x.nii", "--solver", "cg").code == 0
    assert json.loads((tmp_path / "x.json").read_text())["intervals"] is None
    assert "quantiles" not in yaml.safe_load((tmp_path / "x.run.yaml").read_text())


def test_the_calibration_says_what_it_is_of(done):
    found = calibration.load(done / "c.json")
    assert (done / "c.json").stat().st_size < 10_000
    assert found.method["solver"] == "diffpir"
    assert found.method["solver.steps"] == 2
    assert (found.method["acquisition"], found.method["samples"]) == ("mri", 2)
    assert found.scans == ({"name": "r.nii.gz", "sha256": sha(done / "truth.nii.gz")},)
    assert (found.slices, found.held_out) == (4, "blocks of slices of one subject")
    assert abs(found.after[8] - 0.9) < abs(found.before[8] - 0.9)


def test_reconstruct_widens_by_it_and_the_run_file_repeats_it(here, cli):
    """Another seed, so another mean and spread; intervals of 90 % by default; the spread stays what it is."""
    again = cli("reconstruct", "y.h5", "-o", "a.nii", *QUICK, "--seed", 4, "--calibration", "c.json", "--exceed", "300")
    assert (again.code, again.out) == (0, ""), again.err
    assert "c.json" not in again.err
    facts, factor = json.loads((here / "a.json").read_text()), calibration.load(here / "c.json").factors[8]
    floor = 0.002 * facts["intensity_unit"]
    assert facts["intervals"]["law"]["floor"] == pytest.approx(floor)
    assert facts["intervals"]["calibration"]["sha256"] == sha(here / "c.json")
    assert facts["intervals"]["calibration"]["file"] == "c.json"
    mean, std = load(here / "a.nii"), load(here / "a_std.nii")
    half = factor * t.ppf(0.95, 1) * 0.5**0.5 * np.sqrt(std**2 + floor**2)
    np.testing.assert_allclose(load(here / "a_q05.nii"), mean - half, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(load(here / "a_q95.nii"), mean + half, rtol=1e-4, atol=1e-2)
    above, edge = load(here / "a_above-300.nii"), load(here / "a_q95.nii")
    assert ((above > 0.05) == (edge > 300))[abs(edge - 300) > 0.1].all(), "the same law"
    (here / "elsewhere").mkdir()
    assert cli("reconstruct", "--config", "a.run.yaml", "-o", "elsewhere/b.nii").code == 0
    for ending in (".nii", "_q05.nii", "_q95.nii", "_above-300.nii"):
        assert (here / f"a{ending}").read_bytes() == (here / "elsewhere" / f"b{ending}").read_bytes()
    run = yaml.safe_load((here / "elsewhere" / "b.run.yaml").read_text())
    assert (run["calibration"], run["calibration_sha256"]) == ("../c.json", sha(here / "c.json"))


def test_a_calibration_of_other_runs_is_a_warning(here, cli):
    how = ("--steps", 3, "--samples", 4, "--quantiles", "0.001,0.999")
    done = cli("reconstruct", "y.h5", "-o", "a.nii", *how, "--calibration", "c.json")
    assert done.code == 0
    said = [w for w in json.loads((here / "a.json").read_text())["warnings"] if w.startswith("c.json")]
    assert said == [
        "c.json was learned with solver.steps 2, here 3; samples 2, here 4: its intervals may not cover what they say",
        "c.json knows levels up to 0.99; its factor there is taken for quantiles 0.001, 0.999, too",
    ]
    assert done.err.splitlines()[-2:] == [f"invdiff: warning: {w}" for w in said]


def test_none_takes_out_what_a_run_file_says(here, cli):
    cli("reconstruct", "y.h5", "-o", "a.nii", *QUICK, "--calibration", "c.json")
    less = ("--calibration", "none", "--quantiles", "none", "--exceed", "1")
    assert cli("reconstruct", "--config", "a.run.yaml", "-o", "b.nii", *less).code == 0
    assert sorted(p.name for p in here.glob("b_*")) == ["b_above-1.nii", "b_std.nii"]
    run = yaml.safe_load((here / "b.run.yaml").read_text())
    assert not {"calibration", "calibration_sha256", "quantiles"} & run.keys()


def test_the_table(here, cli):
    found = cli("calibrate", "r.nii.gz", "--reference", "truth.nii.gz", "--check", "c.json")
    assert found.code == 0
    assert found.err == "invdiff: warning: c.json was learned from r.nii.gz: no test of it\n"
    lines = found.out.splitlines()
    assert lines[0].split() == ["nominal", "before", "after", "factor", "(slices)"]
    assert [line.split()[0] for line in lines[1:12]] == "10 20 30 40 50 60 70 80 90 95 99".split()
    row = lines[9].split()
    assert abs(float(row[3]) - 0.9) < abs(float(row[2]) - 0.9)
    assert [line.split("  ")[0] for line in lines[12:16]] == ["mean miss", "CRPS", "90 % width", "68 % half-width"]
    assert lines[16].startswith("4 slices, ")
    assert "; a calibration that was learned elsewhere; the 90 % interval covers 0." in lines[16]


def test_json_picture_and_mask(here, cli):
    inside = volumes.load("truth.nii.gz")
    mask = inside.data * 0
    mask[:, 10:30, 10:30] = 1
    volumes.save("mask.nii.gz", inside.like(mask))
    common = ("calibrate", "r.nii.gz", "--reference", "truth.nii.gz", "--mask", "mask.nii.gz", "--json")
    found = json.loads(cli(*common, "-o", "m.json", "--picture", "m.png").out)
    assert (here / "m.png").read_bytes()[:4] == b"\x89PNG"
    assert (found["calibration"]["mask"], found["calibration"]["voxels"]) == ("given", 4 * 400)
    assert found["before"]["voxels"] == 4 * 400
    assert sum(found["after"]["pit"]) == pytest.approx(1)
    assert found["intended_use"] == "research only"
    assert len(found["slices"]["after"]) == 4
    again = json.loads(cli(*common, "--check", "m.json").out)
    assert again["before"] == found["before"]
    assert again["scans"][0]["name"] == "r.nii.gz"
    assert "exists; pass --force to replace it" in cli(*common, "-o", "n.json", "--picture", "m.png").err
    assert cli(*common, "-o", "n.json", "--picture", "m.png", "--force").code == 0


def test_several_scans_are_left_out_in_turn(here, cli):
    cli("reconstruct", "y.h5", "-o", "a.nii.gz", *QUICK, "--seed", 6)
    truth = volumes.load("truth.nii.gz")
    volumes.save("other.nii.gz", truth.like(truth.data + 1))  # a file of its own, so another subject
    refs = ("--reference", "truth.nii.gz", "--reference", "other.nii.gz")
    found = cli("calibrate", "r.nii.gz", "a.nii.gz", *refs, "-o", "two.json")
    assert found.code == 0, found.err
    assert "left out in turn: subjects" in found.out
    assert [line.split("  ")[0] for line in found.out.splitlines()[16:18]] == ["90 % in r.nii.gz", "90 % in a.nii.gz"]
    assert [s["sha256"] for s in calibration.load(here / "two.json").scans] == [sha(here / "truth.nii.gz"), sha(here / "other.nii.gz")]  # fmt: skip # noqa: E501


def batch(folder, **change):
    """What `invdiff batch` leaves, of one scan."""
    for old, new in (
        ("r.nii.gz", "r_desc-mean.nii.gz"),
        ("r_std.nii.gz", "r_desc-std.nii.gz"),
        ("r.json", "r_desc-mean.json"),
    ):
        shutil.copy(folder / old, folder / new)
    files = {"mean": "r_desc-mean.nii.gz", "std": "r_desc-std.nii.gz", "sidecar": "r_desc-mean.json"}
    whole = {"name": "r", "subject": "01", "files": files | {"reference": str(folder / "truth.nii.gz")}}
    point = {"name": "p", "subject": "02", "files": {"mean": "p_desc-mean.nii.gz", "sidecar": "p_desc-mean.json"}}
    (folder / "run_report.json").write_text(json.dumps({"command": "batch", "results": [whole, point]} | change))


def test_a_batch_is_what_its_volumes_are(here, cli):
    batch(here)
    found = cli("calibrate", here, "-o", "batch.json")
    assert found.code == 0
    assert found.err == "invdiff: 1 of 2 results have no spread or no reference\n"
    one, other = (calibration.load(here / name) for name in ("batch.json", "c.json"))
    assert (one.factors, one.before, one.after) == (other.factors, other.before, other.after)
    assert one.scans[0]["name"] == "r"
    named = cli("calibrate", "r_desc-mean.nii.gz", "--reference", "truth.nii.gz", "-o", "named.json")
    assert named.code == 0, named.err
    assert calibration.load(here / "named.json").factors == other.factors


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (None, "run_report.json: No such file or directory; it is what `invdiff batch` writes into its folder"),
        ("{", "run_report.json is no JSON, perhaps truncated; it is what `invdiff batch` writes"),
        ("[]", "run_report.json holds no JSON object; it is what"),
        ("{}", "run_report.json: no result has both a spread and a reference; take two samples or more, of scans"),
        (
            '{"results": [{"name": "r"}]}',
            "run_report.json: its results are not those of `invdiff batch` (KeyError('files'",
        ),
    ],
)
def test_a_folder_that_is_no_batch(report, message, refused, tmp_path):
    folder = tmp_path / "dir"
    folder.mkdir()
    if report:
        (folder / "run_report.json").write_text(report)
    assert message in refused(4, "calibrate", folder, "-o", tmp_path / "x.json")


RECON = ("calibrate", "r.nii.gz", "--reference", "truth.nii.gz")


@pytest.mark.parametrize(
    ("code", "args", "message"),
    [
        (2, RECON, "give -o calibration.json to learn one, or --check calibration.json to hold one to scans"),
        (2, (*RECON, "-o", "x.json", "--check", "c.json"), "give -o calibration.json to learn one, or --check"),
        (2, (*RECON, "-o", "x.yaml"), "x.yaml: it is written as .json; choose this ending"),
        (2, (*RECON, "-o", "x.json", "--picture", "x.pdf"), "x.pdf: it is written as .png; choose this ending"),
        (2, (*RECON, "-o", "c.json"), "c.json exists; pass --force to replace it"),
        (2, ("calibrate", "r.nii.gz", "-o", "x.json"), "1 reconstruction, --reference 0 times; give one for each, in"),
        (2, (*RECON[:2], "r.nii.gz", *RECON[2:], "-o", "x.json"), "2 reconstructions, --reference 1 times; give one"),
        (2, (*RECON, "--mask", "truth.nii.gz", "--mask", "truth.nii.gz", "-o", "x.json"), "1 reconstruction, --mask 2"),
        (2, ("calibrate", ".", "r.nii.gz", "-o", "x.json"), "folders of a batch and volumes at once; calibrate"),
        (2, ("calibrate", ".", "--reference", "truth.nii.gz", "-o", "x.json"), "--reference and --mask are for vol"),
        (2, ("calibrate", "y.h5", "--reference", "truth.nii.gz", "-o", "x.json"), "y.h5: a reconstruction is a .nii"),
        (4, ("calibrate", "truth.nii.gz", "--reference", "truth.nii.gz", "-o", "x.json"),
         "truth_std.nii.gz: no such file; a calibration needs the spread of two samples or more beside truth.nii.gz"),
        (4, ("calibrate", "no.nii.gz", "--reference", "truth.nii.gz", "-o", "x.json"), "no.nii.gz: no such file"),
        (4, (*RECON, "--check", "r.json"), "r.json is no invdiff calibration; make one with `invdiff calibrate`"),
        (4, (*RECON[:3], "y.h5", "-o", "x.json"), "y.h5: "),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)  # fmt: skip
def test_refusals_of_calibrate(code, args, message, here, refused):
    assert message in refused(code, *args)


def test_a_reconstruction_without_its_sidecar(here, refused):
    (here / "r.json").unlink()
    want = "cannot read r.json: No such file or directory; it is what `invdiff reconstruct` writes beside a volume"
    assert want in refused(4, *RECON, "-o", "x.json")
    (here / "r.json").write_text('{"command": "denoise"}')
    assert "r.nii.gz: its .json is not that of a reconstruction ('prior'); reconst" in refused(
        4, *RECON, "-o", "x.json"
    )


RUN = ("reconstruct", "y.h5", "-o", "x.nii", *QUICK)
TOO_FEW = (
    "--quantiles, --exceed and --calibration need the spread of two samples or more, this run has 1; give --samples"
)


@pytest.mark.parametrize(
    ("code", "args", "message"),
    [
        (2, (*RUN, "--quantiles", "0,.5"), "--quantiles takes probabilities between 0 and 1, e.g. 0.05,0.95; got 0,.5"),
        (2, (*RUN, "--quantiles", "5 %"), "--quantiles takes probabilities between 0 and 1, e.g. 0.05,0.95; got 5 %"),
        (2, (*RUN, "--quantiles", "nan"), "--quantiles takes probabilities between 0 and 1"),
        (2, (*RUN, "--exceed", "high"), "--exceed takes values in stored units, e.g. 100 or -300,50; got high"),
        (2, (*RUN, "--exceed", "1,inf"), "--exceed takes values in stored units"),
        (2, (*RUN[:6], "--samples", 1, "--quantiles", "0.5"), TOO_FEW),
        (2, (*RUN[:4], "--solver", "cg", "--exceed", "3"), TOO_FEW),
        (2, (*RUN[:4], "--preset", "fast", "--calibration", "c.json"), TOO_FEW),
        (2, (*RUN[:4], "--solver", "cddb", "--steps", 1, "--exceed", "3"), TOO_FEW),
        (4, (*RUN, "--calibration", "no.json"), "cannot read no.json: No such file or directory; make a calibration"),
        (4, (*RUN, "--calibration", "r.json"), "r.json is no invdiff calibration"),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else "",
)  # fmt: skip
def test_refusals_of_reconstruct(code, args, message, here, refused):
    assert message in refused(code, *args)


def test_a_deterministic_bridge_has_no_spread(here, cli, refused):
    """Which only its card says: the run is kept, and goes on without the flag."""
    tiny = ("--set", "width=8", "--set", "batch=2", "--set", "crop=16", "--steps", 2, "--process", "indi")
    made = cli("train", "bridge", "truth.nii.gz", "-o", "flat.safetensors", "--acquisition", "mri", *tiny)
    assert made.code == 0, made.err
    how = ("reconstruct", "y.h5", "-o", "x.nii", "--solver", "i2sb", "--steps", 2, "--prior", "flat.safetensors")
    assert TOO_FEW in refused(2, *how, "--quantiles", "0.05", kept="x.checkpoint")
    assert cli(*how).code == 0


def test_existing_maps_are_kept(here, refused):
    (here / "x_q05.nii").write_text("mine")
    assert "x_q05.nii exists; pass --force to replace it" in refused(2, *RUN, "--quantiles", "0.05")
    (here / "x_above-3.nii").write_text("mine")
    assert "x_above-3.nii exists; pass --force to replace it" in refused(2, *RUN, "--exceed", "3")


def test_the_calibration_of_a_run_file_must_be_the_same(here, cli, refused):
    cli("reconstruct", "y.h5", "-o", "a.nii", *QUICK, "--calibration", "c.json")
    (here / "c.json").write_text((here / "c.json").read_text() + " ")
    again = ("reconstruct", "--config", "a.run.yaml", "-o", "b.nii")
    want = "c.json is not the calibration of that run (checksum differs); name it by --calibration to use it"
    assert want in refused(4, *again)
    assert cli(*again, "--calibration", "c.json").code == 0
    run = yaml.safe_load((here / "a.run.yaml").read_text()) | {"quantiles": [0.5, 1.0]}
    (here / "a.run.yaml").write_text(yaml.safe_dump(run))
    assert "a.run.yaml.quantiles: Input should be less than 1" in refused(2, *again[:3], "-o", "c.nii")


def test_plan_takes_a_run_file_with_intervals(here, cli):
    assert cli("plan", "--config", "r.run.yaml", "y.h5").code == 0


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("calibrate", "--help"), 0, ""),
        (("calibrate", "r.nii.gz"), 2, "invdiff: ConfigError: give -o calibration.json to learn one"),
        (("reconstruct", "y.h5", "-o", "r.nii", "--quantiles", "5"), 2, "invdiff: ConfigError: --quantiles takes"),
    ],
)
def test_help_and_refusals_import_nothing_heavy(args, code, message):
    probe = (
        "import sys\nfrom invdiff_cli import main\n"
        f"sys.argv = {['invdiff', *args]}\n"
        "try:\n    main()\nfinally:\n"
        "    print('HEAVY', *(m for m in ('torch', 'numpy', 'scipy', 'matplotlib') if m in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    out, _, heavy = done.stdout.rpartition("HEAVY")
    assert heavy.strip() == ""
    assert ("Example: invdiff calibrate" in out) == (code == 0)
