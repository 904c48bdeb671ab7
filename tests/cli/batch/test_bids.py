"""A BIDS tree in, derivatives out that the validator has nothing to say against."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

from invdiff.errors import ConfigError, FileError
from invdiff_cli.batch.bids import joined, scans

from .conftest import QUICK, content, told

DATASET = {"Name": "small", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0", "Authors": ["A. Author"]}


@pytest.fixture
def tree(tmp_path, write):
    """Two participants, one of them with two sessions and a functional series."""
    root = tmp_path / "ds"
    for n, name in enumerate(
        (
            "sub-01/anat/sub-01_T1w",
            "sub-02/ses-a/anat/sub-02_ses-a_acq-low_run-1_T2w",
            "sub-02/ses-b/anat/sub-02_ses-b_T1w",
        )
    ):
        write(root / f"{name}.nii.gz", n)
        (root / f"{name}.json").write_text(json.dumps({"Manufacturer": "none"}))
    series = write(root / "sub-01/func/sub-01_task-rest_bold.nii.gz", 5, lambda x: x[..., None].repeat(2, -1))
    image = nibabel.load(series)
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(dtype="f4"), image.affine, image.header), series)
    (root / "sub-01/func/sub-01_task-rest_bold.json").write_text(
        json.dumps({"TaskName": "rest", "RepetitionTime": 2.0})
    )
    (root / "dataset_description.json").write_text(json.dumps(DATASET))
    (root / "README").write_text("A small tree.\n")
    return root


def validated(folder):
    """Errors of bids-validator."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([program, folder, "--json"], capture_output=True, text=True, check=False, timeout=120)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


def test_the_validator_agrees(tree, tmp_path, batch, running, cli):
    assert validated(tree) == []
    above = ("--exceed", "-0.5,300")
    said = cli("bids", tree, tmp_path / "out", "participant", *QUICK, *above, "--scheduler", running)
    assert said.code == 0, said.err
    out = tmp_path / "out"
    assert validated(out) == []
    images = {p.relative_to(out).as_posix() for p in out.rglob("*.nii.gz")}
    assert images == {
        f"{name}_desc-{part}_{suffix}.nii.gz"
        for name, suffix in (
            ("sub-01/anat/sub-01_rec-diffpir", "T1w"),
            ("sub-01/func/sub-01_task-rest_rec-diffpir", "bold"),
            ("sub-02/ses-a/anat/sub-02_ses-a_acq-low_rec-diffpir_run-1", "T2w"),
            ("sub-02/ses-b/anat/sub-02_ses-b_rec-diffpir", "T1w"),
        )
        for part in ("mean", "std", "direct", "aboveMinus0p5", "above300")
    }
    facts = json.loads((out / "sub-01/anat/sub-01_rec-diffpir_desc-mean_T1w.json").read_text())
    assert facts["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
    assert facts["SkullStripped"] is False
    assert facts["solver"]["kind"] == "diffpir"
    exceeded = {"sub-01_rec-diffpir_desc-aboveMinus0p5_T1w.nii.gz": -0.5}
    assert facts["intervals"]["exceed"] == exceeded | {"sub-01_rec-diffpir_desc-above300_T1w.nii.gz": 300}
    odds = json.loads((out / "sub-01/anat/sub-01_rec-diffpir_desc-above300_T1w.json").read_text())
    assert odds["Description"] == "Probability to lie above 300, in stored units, voxel by voxel"
    series = json.loads((out / "sub-01/func/sub-01_task-rest_rec-diffpir_desc-std_bold.json").read_text())
    assert series["RepetitionTime"] == 2.0
    assert {row["subject"] for row in told(out)["results"]} == {"01", "02"}
    again = batch(tree, "-o", tmp_path / "again", *QUICK, *above)
    assert again.code == 0, again.err
    assert content(tmp_path / "again") == content(out)


def test_the_validator_can_fail(tree):
    """Else the test above would say nothing."""
    (tree / "sub-01/anat/sub-01_desc-std_stat-std.nii.gz").write_bytes(
        (tree / "sub-01/anat/sub-01_T1w.nii.gz").read_bytes()
    )
    assert validated(tree)


def test_participants_and_sessions(tree):
    assert [s.name for s in scans(tree, ["sub-02"], ["b"])] == ["sub-02/ses-b/anat/sub-02_ses-b"]
    assert [s.subject for s in scans(tree, ["02"])] == ["02", "02"]
    assert len(scans(tree)) == 4
    with pytest.raises(ConfigError, match="has no participant 3; it has 01, 02"):
        scans(tree, ["sub-3"])
    with pytest.raises(FileError, match=r"has no image of these participants and sessions \(T1w, T2w"):
        scans(tree, ["01"], ["b"])


def test_entities_keep_their_order():
    assert joined({"desc": "x", "run": "1", "rec": "dps", "sub": "01"}) == "sub-01_rec-dps_run-1_desc-x"


def test_refusals(tree, tmp_path, cli):
    group = cli("bids", tree, tmp_path / "out", "group", *QUICK)
    assert group.code == 2
    assert "the analysis level 'group' is unknown; invdiff works participant by participant" in group.err
    inside = cli("bids", tree, tree / "out", "participant", *QUICK)
    assert inside.code == 2
    assert f"the output folder {tree / 'out'} is inside the input {tree}" in inside.err
    no_tree = cli("bids", tmp_path, tmp_path / "out", "participant", *QUICK)
    assert no_tree.code == 4
    assert f"{tmp_path} is no BIDS dataset: it has no dataset_description.json" in no_tree.err
    two = cli("batch", tree, tree / "sub-01", "-o", tmp_path / "out", *QUICK)
    assert two.code == 2
    assert f"{tree} is a BIDS tree: it is a batch of its own; leave the other inputs" in two.err
