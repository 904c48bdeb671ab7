"""`reconstruct --steer`: on record, repeatable to the bit, its weights kept and used again."""

import json

import pytest
import yaml

from invdiff.priors import checkpoints

QUICK = ("--steps", 2, "--samples", 2, "--set", "steer.levels=2", "--set", "steer.inner=1", "--set", "steer.below=9")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_steered_run_is_repeated_by_its_run_file(measured, tmp_path, program):
    run = program("reconstruct", measured, "-o", "a.nii.gz", "--save-steer", *QUICK)
    assert (run.code, run.out) == (0, ""), run.err
    files = {"a.nii.gz", "a_std.nii.gz", "a.json", "a.run.yaml", "a_steer.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == files
    facts = json.loads((tmp_path / "a.json").read_text())["steering"]
    assert facts["settings"]["levels"] == 2
    assert facts["adam_steps"] == 2
    assert 0 < facts["share_of_network"] < 0.1
    assert yaml.safe_load((tmp_path / "a.run.yaml").read_text())["steer"]["inner"] == 1

    assert program("reconstruct", "--config", "a.run.yaml", "-o", "b.nii.gz").code == 0
    for kind in (".nii.gz", "_std.nii.gz", "_steer.safetensors"):
        assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes(), kind


def test_kept_weights_serve_another_run(measured, tmp_path, cli):
    assert cli("reconstruct", measured, "-o", "a.nii.gz", "--save-steer", *QUICK).code == 0
    kept = "steer.weights=a_steer.safetensors"
    run = cli("reconstruct", measured, "-o", "sub.nii.gz", "--steps", 2, "--samples", 2, "--set", kept)
    assert (run.code, run.out) == (0, ""), run.err
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "sub.nii.gz").read_bytes()
    assert json.loads((tmp_path / "sub.json").read_text())["steering"]["weights"] == "a_steer.safetensors"
    assert cli("reconstruct", "--config", "sub.run.yaml", "-o", "c.nii.gz").code == 0
    assert (tmp_path / "c.nii.gz").read_bytes() == (tmp_path / "sub.nii.gz").read_bytes()


def test_other_weights_than_those_of_the_run_are_refused(measured, tmp_path, cli):
    assert cli("reconstruct", measured, "-o", "a.nii.gz", "--save-steer", *QUICK).code == 0
    kept = "steer.weights=a_steer.safetensors"
    assert cli("reconstruct", measured, "-o", "b.nii.gz", "--steps", 2, "--samples", 2, "--set", kept).code == 0
    run = yaml.safe_load((tmp_path / "b.run.yaml").read_text())
    assert run["steer"] == {"weights": "a_steer.safetensors"}
    assert len(run["weights_sha256"]) == 64
    weights = tmp_path / "a_steer.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = cli("reconstruct", "--config", "b.run.yaml", "-o", "c.nii.gz")
    assert done.code == 4
    assert "a_steer.safetensors is not the file of that run (checksum differs)" in done.err


def test_steering_of_a_run_file_is_turned_off(measured, tmp_path, cli):
    """By name, by a solver without a prior, and with scd, whose own it was."""
    assert cli("reconstruct", measured, "-o", "a.nii.gz", "--steer", *QUICK).code == 0
    for name, args in (("b", ("--no-steer",)), ("c", ("--solver", "tv")), ("d", ("--preset", "fast", "--no-steer"))):
        run = cli("reconstruct", "--config", "a.run.yaml", "-o", f"{name}.nii.gz", *args)
        assert run.code == 0, run.err
        assert json.loads((tmp_path / f"{name}.json").read_text())["steering"] is None
        assert "steer" not in yaml.safe_load((tmp_path / f"{name}.run.yaml").read_text())
    assert cli("reconstruct", measured, "-o", "s.nii.gz", "--solver", "scd", *QUICK).code == 0
    run = cli("reconstruct", "--config", "s.run.yaml", "-o", "t.nii.gz", "--solver", "dds", "--steps", 2)
    assert run.code == 0, run.err
    assert json.loads((tmp_path / "t.json").read_text())["steering"] is None


def test_scd_is_steered_and_says_so_in_its_record(measured, tmp_path, cli):
    run = cli("reconstruct", measured, "-o", "a.nii.gz", "--solver", "scd", *QUICK)
    assert (run.code, run.out) == (0, ""), run.err
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["nfe_per_sample"] == 4
    assert facts["steering"]["adam_steps"] == 2


def test_refusals_leave_nothing_behind(measured, tmp_path, cli):
    (tmp_path / "w.yaml").write_text("steer: {weights: 3}")
    for args, message in (
        (("--solver", "tv", "--steer"), "only a prior of slices can be steered; leave --steer"),
        (("--set", "steer.rank=1000"), "rank 1000 is more than the 64 channels of layer"),
        (("--set", "steer.rnak=2"), "Steering has no setting 'rnak'; did you mean 'rank'?"),
        (("--set", "steer.rank=0"), "Steering.rank: Input should be greater than 0, got 0"),
        (("--config", "w.yaml"), "Steering.weights: Input should be a valid string, got 3"),
        (("--set", "steer.weights=missing.safetensors"), "missing.safetensors is no file of adapted weights"),
        (("--set", f"steer.weights={checkpoints.find('ellipses')}"), "has no adapted weights"),
    ):
        run = cli("reconstruct", measured, "-o", "a.nii.gz", *args)
        assert run.code != 0
        assert run.out == ""
        assert message in run.err
        assert len(run.err.splitlines()) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["w.yaml"]


def test_info_shows_the_settings_of_steering(cli):
    run = cli("info", "steer")
    assert run.code == 0
    assert "learning_rate" in run.out
    assert "steering" in cli("info").out
