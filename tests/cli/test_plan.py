"""`invdiff plan` and `reconstruct --mem-gb`: the table, the JSON, what is chosen and repeated, and refusals."""

import json
import shlex

import pytest
import yaml

from invdiff_cli.plan import command

SHORT = ("--steps", 2, "--samples", 2)


def test_the_table_and_the_command(y, cli):
    done = cli("plan", y, *SHORT, "--planes", "2,0", "--no-steer")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["MiB", "time"]
    assert [line.split("  ")[0] for line in lines[1:6]] == [
        "process, prepared",
        "network",
        "solver and operator",
        "result",
        "peak, all of it",
    ]
    assert all(line.endswith(" s") for line in lines[1:6])
    assert lines[6].startswith("available: ")
    assert lines[7].startswith("uses: 8 slices per network call, ")
    assert lines[8] == f"run: invdiff reconstruct {y} -o recon.nii.gz --steps 2 --samples 2 --planes 2,0 --no-steer"


def test_the_printed_command_runs(y, tmp_path, cli):
    done = cli("plan", y, *SHORT, "--set", "cg_iterations=3", "--set", "lam=2", "--json", "--dtype", "float32")
    plan = json.loads(done.out)
    assert (plan["width"], plan["slices"], plan["window"], plan["dtype"]) == (8, 8, None, "float32")
    assert plan["network_calls"] == 2
    assert plan["seconds"] == pytest.approx(sum(s["seconds"] for s in plan["stages"]))
    assert plan["peak_mib"] < plan["available_mib"]
    words = shlex.split(plan["command"])
    assert words[:5] == ["invdiff", "reconstruct", str(y), "-o", "recon.nii.gz"]
    assert words[5:9] == ["--set", "cg_iterations=3", "--set", "lam=2"]
    done = cli(*words[1:4], tmp_path / "r.nii", *words[5:])
    assert done.code == 0, done.err
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["network_calls"] == plan["network_calls"]
    assert facts["memory"]["width"] == 8


def test_command_has_what_was_given_and_nothing_else():
    assert command({"measurement": None, "config": "a b.yaml", "steer": None, "independent": True, "samples": 0}) == (
        "invdiff reconstruct -o recon.nii.gz --config 'a b.yaml' --independent --samples 0"
    )


def test_nothing_is_written_and_nothing_starts_where_nothing_fits(y, tmp_path, refused):
    for start in (("plan", y), ("reconstruct", y, "-o", tmp_path / "r.nii")):
        said = refused(6, *start, *SHORT, "--mem-gb", "0.05")
        assert "DiffPIR does not fit in memory with 1 slice per network call, " in said
        assert ": it takes more than 0.05 GiB, " in said
        assert "--mem-gb allows 0.05. Take more memory or a smaller volume" in said
    assert "no measurement; give a .h5 file" in refused(2, "plan")
    assert "Invalid value for '--mem-gb'" not in refused(2, "plan", y, "--set", "stpes=3")


def test_the_run_file_says_how_the_network_was_called_and_wins(y, tmp_path, cli):
    how = (*SHORT, "--planes", "2")
    assert cli("reconstruct", y, "-o", tmp_path / "a.nii", *how).code == 0
    path = tmp_path / "a.run.yaml"
    run = yaml.safe_load(path.read_text())
    assert (run["width"], run["slices"], "window" in run) == (1, 8, False)
    path.write_text(yaml.safe_dump(run | {"slices": 3, "window": 32}))
    for name in ("b", "c"):
        assert cli("reconstruct", "--config", path, "-o", tmp_path / f"{name}.nii").code == 0
        path = tmp_path / f"{name}.run.yaml"
        run = yaml.safe_load(path.read_text())
        assert (run["width"], run["slices"], run["window"]) == (1, 3, 32)
    assert (tmp_path / "b.nii").read_bytes() == (tmp_path / "c.nii").read_bytes()
    assert (tmp_path / "a.nii").read_bytes() != (tmp_path / "b.nii").read_bytes()
    done = cli("reconstruct", "--config", path, "-o", tmp_path / "d.nii", "--mem-gb", "0.05")
    assert done.code == 6
    assert "a run file without width, slices and window, so that fewer are chosen" in done.err
    assert not (tmp_path / "d.nii").exists()


def test_images_are_planned_too(small_volume, cli):
    done = cli("plan", small_volume, "--acquisition", "lowres", "--solver", "cg", "--json")
    assert json.loads(done.out)["uses"] == "no network"
