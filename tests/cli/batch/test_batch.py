"""Many scans: what is written, what is not made again, what a broken scan costs."""

import csv
import json
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import yaml

from invdiff.metrics import evaluate

from .conftest import QUICK, content, told


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def nan(x):
    x[1, 2, 3] = np.nan
    return x


def test_a_folder_with_broken_scans(scans, write, tmp_path, batch):
    """One row for each, whatever is wrong with the others; the same command goes on, and repeats nothing."""
    write(scans / "deep" / "nan.nii.gz", 4, nan)
    write(scans / "flat.nii.gz", 5, lambda x: x[..., 0])
    (scans / "short.nii.gz").write_bytes((scans / "s0.nii.gz").read_bytes()[:900])
    run = ("in", "-o", "out", *QUICK)
    done = batch(*run)
    assert done.code == 3, done.err
    assert "3 of 6 scans failed; out/failures.tsv says why" in done.err
    assert "dashboard: http://127.0.0.1:" in done.err
    out = tmp_path / "out"
    failures = {row["name"]: row for row in table(out / "failures.tsv")}
    assert {n: row["kind"] for n, row in failures.items()} == {
        "deep/nan": "FileError", "flat": "GeometryError", "short": "FileError"
    }  # fmt: skip
    assert "1 of 4096 voxels are NaN" in failures["deep/nan"]["reason"]
    assert "the file is truncated" in failures["short"]["reason"]
    rows = table(out / "results.tsv")
    assert [row["name"] for row in rows] == ["s0", "s1", "s2"]
    for row in rows:
        files = out / f"{row['name']}_desc-mean.nii.gz", scans / f"{row['name']}.nii.gz"
        want = evaluate(*(np.asarray(nibabel.load(p).dataobj) for p in files))
        assert float(row["psnr"]) == pytest.approx(want["psnr"], rel=1e-4)
        assert float(row["ssim"]) == pytest.approx(want["ssim"], rel=1e-4)
    assert {p.name for p in out.iterdir()} == {
        *(f"s{n}_desc-{part}.nii.gz" for n in range(3) for part in ("mean", "std", "direct")),
        *(f"s{n}_desc-mean.json" for n in range(3)),
        "results.tsv", "failures.tsv", "run_report.json", "batch.run.yaml", "CITATION.cff", "CITATION.bib", "deep",
    }  # fmt: skip
    first, when = content(out), {p: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")}
    again = batch(*run)
    assert again.code == 3
    assert "3 of 6 scans are done already" in again.err
    assert "3 failed before and are left; --retry-failed tries them again" in again.err
    assert content(out) == first
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")} == when
    write(scans / "deep" / "nan.nii.gz", 4)
    (out / "s1_desc-std.nii.gz").write_bytes(b"damaged")
    refused = batch(*run, "--retry-failed")
    assert refused.code == 2
    assert f"{out}/s1_desc-std.nii.gz and 0 more are of other settings, scans or versions, or were" in refused.err
    (out / "s1_desc-std.nii.gz").unlink()
    mended = batch(*run, "--retry-failed")
    assert mended.code == 3
    assert "2 of 6 scans are done already" in mended.err
    assert [row["name"] for row in table(out / "results.tsv")] == ["deep/nan", "s0", "s1", "s2"]
    assert {k: v for k, v in content(out).items() if k.startswith("s1")} == {
        k: v for k, v in first.items() if k.startswith("s1")
    }


def test_workers_do_not_decide(scans, tmp_path, program, batch):
    """One worker of its own, or two of a cluster, in another order: the same bytes; and the run file repeats them."""
    assert program("batch", "in", "-o", "one", *QUICK, "--workers", 1).code == 0
    assert batch("in/s2.nii.gz", "in/s?.nii.gz", "-o", "two", "--config", "one/batch.run.yaml").code == 0
    assert content(tmp_path / "two") == content(tmp_path / "one")
    settings = yaml.safe_load((tmp_path / "one" / "batch.run.yaml").read_text())
    assert settings["simulation"]["acquisition"]["kind"] == "mri"
    assert settings["settings"]["steps"] == 3


def test_stage_by_stage(scans, write, tmp_path, batch):
    """Simulated, reconstructed and evaluated one by one: the same image as at once."""
    assert batch("in", "-o", "y", "--stages", "simulate", "--acquisition", "mri").code == 0
    assert sorted(p.name for p in (tmp_path / "y").glob("s*")) == [
        f"s{n}_y{e}" for n in range(3) for e in (".h5", ".json")
    ]
    refused = batch("y/s0_y.h5", "-o", "recon", *QUICK)
    assert refused.code == 2
    assert "is a measurement and knows how it was made; leave --acquisition, --axis" in refused.err
    assert batch("y/s0_y.h5", "-o", "recon", "--samples", 2, "--steps", 3).code == 0
    assert batch("in/s0.nii.gz", "-o", "all", *QUICK).code == 0
    mean = tmp_path / "recon" / "s0_y_desc-mean.nii.gz"
    assert mean.read_bytes() == (tmp_path / "all" / "s0_desc-mean.nii.gz").read_bytes()
    write(tmp_path / "twice.nii.gz", 0, lambda x: np.stack([x, x], -1))
    rows = (
        "name\tinput\treference\tmask",
        *(
            f"{name}\trecon/s0_y_desc-mean.nii.gz\tin/s0.nii.gz\t{mask}"
            for name, mask in (("s0", "n/a"), ("two", "twice.nii.gz"))
        ),
    )
    (tmp_path / "judged.tsv").write_text("\n".join(rows), encoding="utf-8-sig")  # as spreadsheets save it
    assert batch("judged.tsv", "-o", "judged", "--stages", "evaluate").code == 3
    (failure,) = table(tmp_path / "judged" / "failures.tsv")
    assert "twice.nii.gz has 2 frames; masks and regions are one volume for all frames" in failure["reason"]
    (row,), (whole,) = (table(tmp_path / folder / "results.tsv") for folder in ("judged", "all"))
    assert (row["psnr"], row["ssim"]) == (whole["psnr"], whole["ssim"])
    assert json.loads((tmp_path / "judged" / "s0_desc-metrics.json").read_text())["batch"]["metrics"][0]["psnr"]


def test_intervals(scans, tmp_path, batch, cli):
    """A calibration is learned from the folder of one run and applied by the next."""
    assert batch("in", "-o", "one", *QUICK, "--quantiles", "0.05,0.95").code == 0
    low, high = (nibabel.load(tmp_path / "one" / f"s0_desc-q{q}.nii.gz").get_fdata() for q in ("05", "95"))
    learned = cli("calibrate", "one", "-o", "wider.json")
    assert learned.code == 0, learned.err
    again = batch("in", "-o", "two", *QUICK, "--calibration", "wider.json")
    assert again.code == 0, again.err
    wide = [nibabel.load(tmp_path / "two" / f"s0_desc-q{q}.nii.gz").get_fdata() for q in ("05", "95")]
    facts = json.loads((tmp_path / "two" / "s0_desc-mean.json").read_text())["intervals"]
    assert facts["quantiles"] == {"s0_desc-q05.nii.gz": 0.05, "s0_desc-q95.nii.gz": 0.95}
    at = facts["calibration"]["levels"].index(0.9)
    middle = (high + low) / 2
    ratio = (wide[1] - wide[0])[middle > 100] / (high - low)[middle > 100]
    assert np.median(ratio) == pytest.approx(facts["calibration"]["factors"][at], rel=0.02)
    (tmp_path / "wider.json").write_text("{}")
    damaged = batch("in", "-o", "three", *QUICK, "--calibration", "wider.json")
    assert damaged.code == 4
    assert "wider.json" in damaged.err


def test_gates_and_protocols(scans, tmp_path, batch, cli):
    """Rows bear their protocol; what is worse than a gate is told, in JUnit too; two runs are compared."""
    how = ("--protocol", "fastmri", "--fail-under", "psnr=99", "--junit", "gates.xml")
    done = batch("in", "-o", "out", *QUICK, *how)
    assert done.code == 8
    assert "frame 0: psnr is" in done.err
    rows = table(tmp_path / "out" / "results.tsv")
    assert {row["protocol"] for row in rows} == {"fastmri"}
    assert {row["protocol_hash"] for row in rows} == {told(tmp_path / "out")["protocol"]["hash"]}
    cases = ElementTree.parse(tmp_path / "gates.xml").getroot().iter("testcase")
    assert [case.get("classname") for case in cases] == ["s0", "s1", "s2"]
    assert batch("in", "-o", "out", *QUICK, "--protocol", "fastmri", "--fail-under", "psnr=1").code == 0
    assert batch("in", "-o", "cg", "--solver", "cg", *QUICK[:2], "--protocol", "fastmri").code == 0
    found = cli("compare", "cg/results.tsv", "out/results.tsv", "--metric", "psnr", "--json")
    assert found.code == 0, found.err
    (row,) = json.loads(found.out)["comparisons"]
    better = [
        float(a["psnr"]) - float(b["psnr"]) for a, b in zip(rows, table(tmp_path / "cg" / "results.tsv"), strict=True)
    ]
    assert row["difference"] == pytest.approx(np.mean(better), rel=1e-6)
    refused = cli("batch", "in", "-o", "other", *QUICK, "--junit", "gates.xml")
    assert refused.code == 2
    assert "--junit has a test case per row and gate; give --fail-under, e.g. psnr=30" in refused.err


def test_dry_run(scans, tmp_path, cli):
    """A plan, and nothing on disk."""
    said = cli("batch", scans, "-o", tmp_path / "out", *QUICK, "--workers", 2, "--dry-run")
    assert said.code == 0, said.err
    assert f"to do         {scans / 's0.nii.gz'} -> s0_desc-mean.nii.gz" in said.out
    assert "3 of 3 scans: simulate, reconstruct, evaluate" in said.out
    assert "workers: 2 of 1 thread\n" in said.out
    assert "MiB for all workers\ntime: about " in said.out
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused(scans, tmp_path, batch):
    run = ("in", "-o", "out", *QUICK)
    assert batch(*run).code == 0
    before = content(tmp_path / "out")
    other = batch(*run, "--seed", 3)
    assert other.code == 2
    assert "s0_desc-mean.nii.gz and 2 more are of other settings, scans or versions" in other.err
    assert content(tmp_path / "out") == before
    assert batch(*run, "--seed", 3, "--force").code == 0
    assert told(tmp_path / "out")["settings"]["seed"] == 3
    assert not (tmp_path / "out" / ".work").exists()


REFUSED = {
    "same name": (
        ("in/s0.nii.gz", "more/s0.nii.gz"),
        ("--acquisition", "mri"),
        "more/s0.nii.gz would both be written as s0; give them names",
    ),
    "nothing there": (
        ("no*.nii",),
        ("--acquisition", "mri"),
        "no*.nii: no such file, folder or pattern",
    ),
    "no scans": (
        ("empty",),
        ("--acquisition", "mri"),
        "empty holds no .nii, .nii.gz or .h5 file",
    ),
    "no scan": (
        ("notes.txt",),
        (),
        "notes.txt is no scan by its name; a batch takes .nii, .nii.gz and .h5",
    ),
    "no acquisition": (
        ("in",),
        (),
        "say how the scans are to be measured, e.g. --acquisition mri",
    ),
    "typo in a flag": (
        ("in",),
        ("--acquisition", "mir"),
        "no acquisition 'mir'; did you mean 'mri'?",
    ),
    "typo in --set": (
        ("in",),
        ("--acquisition", "mri", "--set", "acquisition.accelration=4"),
        "MRI has no setting 'accelration'; did you mean 'acceleration'?",
    ),
    "typo in the config": (
        ("in",),
        ("--config", "typo.yaml"),
        "typo.yaml has an unknown key 'smaples'; did you mean 'samples'?",
    ),
    "stages": (
        ("in",),
        ("--stages", "simulat"),
        "there is no 'simulat'; did you mean 'simulate'?",
    ),
    "nothing to evaluate": (
        ("in",),
        ("--stages", "simulate,evaluate", "--acquisition", "mri"),
        "a simulation has nothing to evaluate; give --stages simulate,reconstruct,evaluate",
    ),
    "no reference": (
        ("in",),
        ("--stages", "evaluate"),
        "in/s0.nii.gz has nothing to be compared with; name its reference",
    ),
    "noise": (
        ("in",),
        ("--acquisition", "mri", "--noise", "-1"),
        "noise must be a finite number >= 0, got -1",
    ),
    "workers": (
        ("in",),
        ("--acquisition", "mri", "--workers", "0"),
        "--workers must be at least 1, got 0",
    ),
    "threads": (
        ("in",),
        ("--acquisition", "mri", "--threads", "0"),
        "--threads must be at least 1, got 0",
    ),
    "slurm settings": (
        ("in",),
        ("--acquisition", "mri", "--set", "slurm.queue=a"),
        "--set slurm.KEY=VALUE is for --slurm",
    ),
    "two clusters": (
        ("in",),
        ("--acquisition", "mri", "--slurm", "--scheduler", "tcp://127.0.0.1:1"),
        "--slurm starts a cluster of its own; leave it, or --scheduler",
    ),
    "unknown column": (
        ("column.tsv",),
        ("--acquisition", "mri"),
        "column.tsv has an unknown column 'inptu'; did you mean 'input'?",
    ),
    "no column": (
        ("bare.tsv",),
        ("--acquisition", "mri"),
        "bare.tsv names no scans; a manifest has a column `input`",
    ),
    "no input": (
        ("hole.tsv",),
        ("--acquisition", "mri"),
        "hole.tsv, line 3: no input",
    ),
    "ragged": (
        ("ragged.tsv",),
        ("--acquisition", "mri"),
        "ragged.tsv, line 2 has 1 cells, the first line 2; are they tabs?",
    ),
    "name outside": (
        ("out.tsv",),
        ("--acquisition", "mri"),
        "out.tsv, line 2: the name '../x' leads out of the output folder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, scans, write, tmp_path, cli, monkeypatch):
    inputs, flags, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "more" / "s0.nii.gz", 7)
    (tmp_path / "empty").mkdir()
    files = {
        "notes.txt": "",
        "typo.yaml": "smaples: 2\n",
        "column.tsv": "inptu\nin/s0.nii.gz\n",
        "bare.tsv": "name\na\n",
        "hole.tsv": "input\tname\nin/s0.nii.gz\ta\n\tb\n",
        "ragged.tsv": "input\tname\nin/s0.nii.gz a\n",
        "out.tsv": "input\tname\nin/s0.nii.gz\t../x\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    said = cli("batch", *inputs, "-o", "out", *flags)
    assert said.code in (2, 4)
    assert message in said.err
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_an_output_folder_inside_the_input(scans, cli):
    said = cli("batch", scans, "-o", scans / "out", *QUICK)
    assert said.code == 2
    assert f"the output folder {scans / 'out'} is inside the input {scans}; choose one outside of it" in said.err
    assert not (scans / "out").exists()


def test_a_folder_that_cannot_be_made(scans, tmp_path, cli):
    (tmp_path / "file").write_text("")
    said = cli("batch", scans, "-o", tmp_path / "file", *QUICK)
    assert said.code == 4
    assert f"cannot make the folder {tmp_path / 'file'}: File exists" in said.err


def test_an_unreachable_scheduler(scans, tmp_path, cli, socket_enabled):
    said = cli("batch", scans, "-o", tmp_path / "out", *QUICK, "--scheduler", "tcp://127.0.0.1:9")
    assert said.code == 2
    assert "no scheduler answers at tcp://127.0.0.1:9" in said.err
    assert "start one with `dask scheduler`, or leave --scheduler" in said.err
    assert not list((tmp_path / "out").iterdir())
