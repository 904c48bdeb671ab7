"""`invdiff prior convert` as a user meets it: a report, a prior that reconstructs, one line when it cannot be."""

import pickle

import pytest
import torch

from invdiff.networks import ADM
from invdiff.priors import checkpoints


class Stranger:
    """An object that only pickle can bring back."""


@pytest.fixture
def adm(tmp_path):
    """A checkpoint with a learned variance and a moving average."""
    torch.manual_seed(0)
    net = ADM(1, 2, 32, (32, 64), 1, (2,), num_head_channels=32, resblock_updown=True)
    path = tmp_path / "adm.pt"
    torch.save({"model": net.state_dict(), "model_ema": net.state_dict()}, path)
    return path


def test_a_converted_prior_reconstructs(adm, small_volume, tmp_path, cli):
    prior = tmp_path / "heads.safetensors"
    done = cli("prior", "convert", adm, "-o", prior, "--set", "num_head_channels=32", "--licence", "MIT")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    count = len(torch.load(adm)["model"])
    assert lines[0] == f"{adm}: adm, {count} of {count} tensors matched, from 'model_ema'"
    assert lines[1] == "not taken: model"
    assert (
        lines[2]
        == "assumed, for the file does not show it: num_heads=4, use_new_attention_order=False, schedule=linear"
    )
    assert lines[3].startswith(
        f"{prior}: adm, 1 channels, vp-eps, schedule linear, sigma 0.01 to 157.4, images in [-1, 1]"
    )
    card = checkpoints.verify(prior)
    assert (card.name, card.licence, card.config["num_head_channels"]) == ("adm", "MIT", 32)
    y = tmp_path / "y.h5"
    assert cli("simulate", "mri", small_volume, "-o", y, "--image", "real").code == 0
    done = cli("reconstruct", y, "-o", tmp_path / "r.nii.gz", "--prior", prior, "--steps", 2, "--samples", 1)
    assert done.code == 0, done.err


def test_every_flag_reaches_the_card(adm, tmp_path, cli):
    prior = tmp_path / "p.safetensors"
    flags = ["--family", "adm", "--parameterisation", "vp-v", "--schedule", "cosine:steps=500", "--range", 0, 1,
             "--window", -1000, 1000, "--mean", 0.2, "--std", 0.3, "--name", "chest", "--set", "channels=32,64",
             "--set", "attention=2"]  # fmt: skip
    assert cli("prior", "convert", adm, "-o", prior, *flags).code == 0
    card = checkpoints.read_card(prior)
    assert (card.parameterisation, card.schedule, card.mean, card.std) == ("vp-v", "cosine:steps=500", 0.2, 0.3)
    assert card.units == {"window": [-1000, 1000], "range": [0, 1]}
    assert (card.name, card.licence, card.config["channels"]) == ("chest", "unknown", [32, 64])


def test_pickles_are_announced(tmp_path, cli, refused):
    path, prior = tmp_path / "x.pt", tmp_path / "p.safetensors"
    torch.save({"model": ADM(1, 1, 32, (32,), 1).state_dict(), "config": Stranger()}, path)
    assert "--allow-pickle loads it, but unpickling runs whatever" in refused(5, "prior", "convert", path, "-o", prior)
    done = cli("prior", "convert", path, "-o", prior, "--allow-pickle")
    assert done.code == 0
    assert done.err == f"invdiff: warning: {path}: unpickling runs whatever code the file's author put in\n"
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Stranger()))
    assert "is a pickle of the network itself" in refused(
        5, "prior", "convert", tmp_path / "net.pkl", "-o", prior, "--force"
    )


REFUSED = {
    "ending": (2, ["-o", "p.pt"], "a prior is written as .safetensors; choose this ending"),
    "exists": (2, ["-o", "old.safetensors"], "old.safetensors exists; pass --force to replace it"),
    "family": (2, ["--family", "amd"], "no family 'amd'; did you mean 'adm'?"),
    "set": (2, ["--set", "num_heads"], "--set takes KEY=VALUE, got 'num_heads'"),
    "argument": (2, ["--set", "num_head=2"], "ADM has no argument 'num_head'; did you mean 'num_heads'?"),
    "heads": (2, ["--set", "num_heads=5"], "64 channels do not divide into 5 heads; correct it with --set KEY=VALUE"),
    "wrong architecture": (5, ["--set", "attention=1"], "does not fit the adm that its keys show; "),
    "parameterisation": (5, ["--parameterisation", "eps"], "'eps' is unknown; there are: edm, vp-eps"),
    "schedule": (5, ["--schedule", "square"], "schedule 'square' is unknown; there are: linear"),
    "range": (2, ["--range", "1", "0"], "range 1 to 0 must ascend"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, adm, tmp_path, refused, monkeypatch):
    code, flags, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.safetensors").write_bytes(b"old")
    flags = flags if "-o" in flags else ["-o", "p.safetensors", *flags]
    assert message in refused(code, "prior", "convert", adm, *flags)


def test_set_values(adm, tmp_path, refused):
    """YAML that is not, and a list."""
    refuse = ("prior", "convert", adm, "-o", tmp_path / "p.safetensors", "--set")
    assert "--set attention: cannot be read as a value" in refused(2, *refuse, "attention=[1")
    assert "attention=[1, 2]" not in refused(5, *refuse, "attention=[1, 2]")
