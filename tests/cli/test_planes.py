"""`reconstruct --planes`: whole volumes, on record, repeated to the bit, and what is refused."""

import json

import pytest
import torch
import yaml

from invdiff.networks.unet import UNet
from invdiff.priors import checkpoints

SHORT = ("--steps", 3, "--samples", 1)


def tiny(path, seed, **card):
    """A prior whose network is like no other's."""
    torch.manual_seed(seed)
    net = UNet(in_channels=2, channels=(8,), blocks=1)
    torch.nn.init.normal_(net.head.weight, std=0.1)
    about = {"name": path.stem, "config": net.config, "mean": 0.0, "std": 0.3, "spacing": [0.5, 3.0]}
    checkpoints.save(path, net, checkpoints.Card(**(about | card)))


def test_planes_may_have_priors_of_their_own(measured, tmp_path, cli):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    tiny(a, 1)
    tiny(b, 2)
    two = ("--planes", "2,0", "--prior", a)
    assert cli("reconstruct", measured, "-o", tmp_path / "one.nii", *SHORT, *two).code == 0
    assert cli("reconstruct", measured, "-o", tmp_path / "two.nii", *SHORT, *two, "--auxiliary", b).code == 0
    facts = json.loads((tmp_path / "two.json").read_text())
    assert (facts["prior"]["name"], facts["prior"]["auxiliary"]["name"]) == ("a", "b")
    assert facts["prior"]["sha256"] != facts["prior"]["auxiliary"]["sha256"]
    assert facts["network_calls"] == 8, "one call of 4 slices on two levels, 6 of 48 on one"
    run = yaml.safe_load((tmp_path / "two.run.yaml").read_text())
    assert run["auxiliary"] == "./b.safetensors"
    assert cli("reconstruct", "--config", tmp_path / "two.run.yaml", "-o", tmp_path / "again.nii").code == 0
    one, two, again = ((tmp_path / f"{n}.nii").read_bytes() for n in ("one", "two", "again"))
    assert two == again != one
    tiny(b, 3)
    done = cli("reconstruct", "--config", tmp_path / "two.run.yaml", "-o", tmp_path / "other.nii")
    assert done.code == 5
    assert "b.safetensors is not the prior of that run (checksum differs); pass --auxiliary" in done.err


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            {"units": {"window": [-1000.0, 1000.0], "range": [0.0, 1.0]}},
            "share one scale of intensities; a has 0 ... 1, b has -1000 ... 1000 as 0 ... 1: take two of the same",
        ),
        (
            {"spacing": [5.0, 8.0]},
            "see the same voxels; a on 0.5 to 3 mm and b on 5 to 8 mm have none in common: take two that do",
        ),
    ],
)
def test_priors_that_do_not_go_together_are_refused(card, message, measured, tmp_path, cli):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    tiny(a, 1)
    tiny(b, 2, **card)
    how = ("--planes", "2,0", "--prior", a, "--auxiliary", b)
    done = cli("reconstruct", measured, "-o", tmp_path / "r.nii", *SHORT, *how)
    assert done.code == 5
    assert message in done.err
    assert not (tmp_path / "r.nii").exists()


def test_perpendicular_planes_are_on_record_and_repeatable(measured, tmp_path, cli):
    how = ("--planes", "2,0", "--ratio", "3", "--steps", 3, "--samples", 1)
    done = cli("reconstruct", measured, "-o", tmp_path / "a.nii", *how)
    assert (done.code, done.out) == (0, ""), done.err
    planes = json.loads((tmp_path / "a.json").read_text())["planes"]
    assert planes == {"axes": [2, 0], "ratio": 3.0, "shared": 0.0, "auxiliary": None}
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
        (
            ("--planes", "2", "--auxiliary", "brain-mr-complex"),
            "--auxiliary is for several planes; give --planes, e.g.",
        ),
        (("--planes", "2", "--solver", "ddrm"), "DDRM needs a SVDOperator as its operator; Slicewise is not one"),
    ],
)
def test_refusals(args, message, measured, tmp_path, cli):
    done = cli("reconstruct", measured, "-o", tmp_path / "a.nii", *args)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "a.nii").exists()
