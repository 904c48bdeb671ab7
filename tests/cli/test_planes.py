"""`reconstruct --planes`: whole volumes, on record, repeated to the bit, and what is refused."""

import json

import pytest
import yaml


def test_perpendicular_planes_are_on_record_and_repeatable(measured, tmp_path, cli):
    how = ("--planes", "2,0", "--ratio", "3", "--steps", 3, "--samples", 1)
    done = cli("reconstruct", measured, "-o", tmp_path / "a.nii", *how)
    assert (done.code, done.out) == (0, ""), done.err
    assert json.loads((tmp_path / "a.json").read_text())["planes"] == {"axes": [2, 0], "ratio": 3.0, "shared": 0.0}
    run = yaml.safe_load((tmp_path / "a.run.yaml").read_text())
    assert (run["planes"], run["ratio"], run["width"]) == ([2, 0], 3.0, 1)
    assert cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "b.nii").code == 0
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    one = cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "c.nii", "--planes", "2")
    assert one.code == 0
    assert (tmp_path / "a.nii").read_bytes() != (tmp_path / "c.nii").read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--planes", "2,2"), "--planes takes stored axes, each once, e.g. 2 or 2,0; got 2,2"),
        (("--planes", "3"), "--planes.planes: Input should be less than or equal to 2, got ['3']"),
        (("--planes", "axial"), "--planes.planes: Input should be a valid integer"),
        (("--planes", "2,0", "--ratio", "1"), "--planes.ratio: Input should be greater than 1, got 1"),
        (("--ratio", "3"), "--ratio is for several planes; give --planes, e.g. --planes 2,0"),
        (("--planes", "2", "--solver", "ddrm"), "DDRM needs a SVDOperator as its operator; Slicewise is not one"),
    ],
)
def test_refusals(args, message, measured, tmp_path, cli):
    done = cli("reconstruct", measured, "-o", tmp_path / "a.nii", *args)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "a.nii").exists()
