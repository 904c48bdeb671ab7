"""`invdiff tune`: its table, the run file that reconstruct takes, ladders, and each refusal."""

import json
from pathlib import Path

import pytest
import yaml

from invdiff.errors import ConfigError

FEW = ("--slices", "2", "--set", "iterations=5")


def test_the_best_goes_into_a_run_file_that_reconstruct_takes(cli, y, tmp_path):
    out = tmp_path / "w.yaml"
    done = cli("tune", y, "--solver", "wavelet", "--grid", "weight=0.003,30", "--set", "family=db1", "-o", out)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "2 of 12 lines of k-space held out; slices 0, 1, 2, 3"
    assert lines[1].split() == ["weight", "held-out", "chi2", "seconds"]
    assert [line.split()[0] for line in lines[2:4]] == ["0.003", "30"]
    assert [line.endswith("best") for line in lines[2:4]] == [True, False]
    assert lines[4] == f"wrote {out}; use it with: invdiff reconstruct --config {out} -o recon.nii.gz"
    run = yaml.safe_load(out.read_text())
    assert (run["measurement"], run["solver"], run["settings"]) == (
        "y.h5",
        "wavelet",
        {"weight": 0.003, "family": "db1"},
    )
    recon = tmp_path / "r.nii.gz"
    assert cli("reconstruct", "--config", out, "-o", recon).code == 0
    assert json.loads((tmp_path / "r.json").read_text())["solver"]["weight"] == 0.003


def test_by_default_five_values_and_a_file_beside_the_measurement(cli, y, tmp_path):
    done = cli("tune", y, "--solver", "CG", "--slices", "1")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[2:7]] == ["5", "10", "20", "40", "80"]
    assert yaml.safe_load((tmp_path / "tuned.yaml").read_text())["solver"] == "cg"


def test_views_are_held_out_of_ct(cli, small_volume, tmp_path):
    y = tmp_path / "ct.h5"
    assert cli("simulate", "ct", small_volume, "-o", y, "--views", "20").code == 0
    done = cli("tune", y, "--solver", "cg", "--slices", "1", "--hold-out", "0.1")
    assert done.out.startswith("2 of 20 views held out; slices 2\n")


def test_a_measurement_without_noise_is_scored_relative_to_y(cli, small_volume, tmp_path):
    y = tmp_path / "clean.h5"
    assert cli("simulate", "mri", small_volume, "-o", y, "--noise", "0").code == 0
    assert "held-out residual^2 / y^2" in cli("tune", y, "--solver", "wavelet", *FEW).out


def test_samplers_and_ladders(cli, y, tmp_path):
    """Tuning, then a search; both outputs serve reconstruct."""
    out, ladder = tmp_path / "d.yaml", tmp_path / "ladder.json"
    few = ("--slices", "1", "--samples", "1", "--steps", "2")
    done = cli("tune", y, *few, "--grid", "lam=0.5,1", "--ladder", ladder, "--levels", "4", "-o", out)
    assert done.code == 0, done.err
    assert "mean squared distance of 2 levels from 4: " in done.out
    content = json.loads(ladder.read_text())
    assert (content["N"], content["K"], content["solver"], len(content["sigmas"])) == (4, 2, "diffpir", 3)
    run = yaml.safe_load(out.read_text())
    best = run["settings"].pop("lam")
    assert best in (0.5, 1.0)
    assert content["settings"] == {"lam": best, "steps": 2, "sampler": "ddim", "zeta": 0.0}
    assert run["settings"] == {"steps": 2, "sampler": "ddim", "zeta": 0.0, "ladder": "ladder.json"}
    assert len(run["ladder_sha256"]) == 64
    recon = tmp_path / "r.nii.gz"
    assert cli("reconstruct", "--config", out, "--samples", "1", "-o", recon).code == 0
    assert json.loads((tmp_path / "r.json").read_text())["solver"]["ladder"] == str(ladder)


def test_a_ladder_moves_with_its_run_file_and_must_be_the_same(cli, y, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ("--slices", "1", "--samples", "1", "--steps", "2", "--levels", "3", "--grid", "lam=1")
    assert cli("tune", y, *few, "--ladder", "ladder.json", "-o", "d.yaml").code == 0
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("ladder.json", "d.yaml", "y.h5"):
        (tmp_path / name).rename(moved / name)
    assert cli("reconstruct", "--config", moved / "d.yaml", "--samples", 1, "-o", "a.nii").code == 0
    assert cli("reconstruct", "--config", "a.run.yaml", "-o", "b.nii").code == 0
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    ladder = moved / "ladder.json"
    ladder.write_text(ladder.read_text() + " ")
    done = cli("reconstruct", "--config", "a.run.yaml", "-o", "c.nii")
    assert done.code == 4
    assert "ladder.json is not the file of that run (checksum differs); name it by --set ladder= to use it" in done.err
    assert cli("reconstruct", "--config", "a.run.yaml", "--set", f"ladder={ladder}", "-o", "c.nii").code == 0


def test_a_prior_is_recorded(cli, y, tmp_path):
    out = tmp_path / "p.yaml"
    args = ("--solver", "pnp", "--slices", "1", "--set", "iterations=1", "--grid", "sigma=0.1")
    assert cli("tune", y, *args, "--prior", "brain-mr-complex", "-o", out).code == 0
    run = yaml.safe_load(out.read_text())
    assert (run["prior"], len(run["prior_sha256"])) == ("brain-mr-complex", 64)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--solver", "difpir"), "no solver 'difpir'; did you mean 'diffpir'?"),
        (("--solver", "direct"), "direct has no main setting; say what to try"),
        (("--solver", "tv", "--grid", "weight"), "--grid takes KEY=v1,v2, got 'weight'"),
        (("--solver", "tv", "--grid", "weight="), "--grid takes KEY=v1,v2,..., got weight="),
        (("--solver", "tv", "--grid", "wieght=1"), "TV has no setting 'wieght'; did you mean 'weight'?"),
        (("--solver", "tv", "--set", "weight=1"), "weight is what tv is tuned in, and --set gives it"),
        (("--solver", "tv", "--grid", "weight=1", "--set", "weight=1"), "weight is both in --grid and in --set"),
        (("--solver", "tv", "--hold-out", "1"), "--hold-out lies between 0 and 1, got 1"),
        (("--solver", "tv", "-o", "t.json"), "t.json: a run file is written as .yaml; choose this ending"),
        (("--solver", "tv", "--ladder", "l.json"), "tv walks down no noise ladder; --ladder is for solvers"),
        (("--ladder", "l.json"), "--ladder needs the number of its levels; give --steps"),
        (("--ladder", "l.yaml", "--steps", "3"), "l.yaml: a ladder is written as .json; choose this ending"),
        (("--ladder", "l.json", "--steps", "9", "--levels", "5"), "--levels 5 are fewer than --steps 9"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_flags_are_refused(args, message, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in refused(ConfigError.exit_code, "tune", "y.h5", *args)


def test_an_existing_output_is_kept(refused, y, tmp_path):
    (tmp_path / "tuned.yaml").write_text("mine")
    assert "tuned.yaml exists; pass --force to replace it" in refused(2, "tune", y, "--solver", "tv")


def test_a_missing_measurement(refused, tmp_path):
    assert "no such measurement file" in refused(4, "tune", tmp_path / "none.h5", "--solver", "tv")
    assert not Path(tmp_path / "tuned.yaml").exists()


def test_help_is_light_and_has_an_example(cli):
    assert "Example: invdiff tune" in cli("tune", "--help").out
    import subprocess
    import sys

    probe = (
        "import sys\nfrom invdiff_cli import main\n"
        "sys.argv = ['invdiff', 'tune', 'y.h5', '--solver', 'tv', '--grid', 'weight=-1']\n"
        "try:\n    main()\nfinally:\n    print(*(m for m in ('torch', 'numpy', 'h5py') if m in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (2, "")
    assert "TV.weight: Input should be greater than or equal to 0, got -1" in done.stderr


def test_a_ladder_of_another_prior_or_solver_is_refused(cli, y, tmp_path):
    file = tmp_path / "ladder.json"
    for content, message in (({"prior_sha256": "0"}, "another prior (checksum differs)"), ({"solver": "dds"}, "dds")):
        file.write_text(json.dumps({"sigmas": [1.0, 0.1, 0.0], **content}))
        done = cli("reconstruct", y, "-o", tmp_path / "x.nii", "--steps", 2, "--set", f"ladder={file}")
        assert done.code == 2
        assert message in done.err
        assert done.err.endswith("; search again with invdiff tune --ladder\n")
    assert not (tmp_path / "x.nii").exists()
