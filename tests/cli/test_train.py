"""`invdiff train prior`: a card that loads, and a killed run that goes on to the same weights."""

import json

import pytest
from safetensors.torch import load_file

from invdiff.priors import checkpoints
from invdiff.training import denoiser


@pytest.fixture
def small_batches(monkeypatch):
    """Two crops of 16 pixels a step and a small network: the bookkeeping does not depend on them."""
    from functools import partial

    from invdiff.networks.unet import UNet

    monkeypatch.setattr("invdiff.networks.unet.UNet", partial(UNet, channels=(8, 16), blocks=1))
    keep = denoiser.DenoiserTraining.__init__

    def init(self, **given):
        keep(self, **({"batch": 4, "crop": 16} | given))

    monkeypatch.setattr(denoiser.DenoiserTraining, "__init__", init)


def test_a_trained_prior_has_a_card_and_reconstructs(small_volume, tmp_path, cli, measured):
    prior = tmp_path / "mine.safetensors"
    done = cli("train", "prior", small_volume, "-o", prior, "--steps", 2, "--name", "two steps", "--licence", "CC0")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]
    _, card = checkpoints.load(prior)
    assert (card.name, card.licence, card.training["steps"], card.training["seed"]) == ("two steps", "CC0", 2, 0)
    assert card.scans[0]["file"] == "small.nii.gz"
    assert len(card.scans[0]["sha256"]) == 64
    assert 0 < card.std < 1
    recon = tmp_path / "r.nii"
    done = cli("reconstruct", measured, "-o", recon, "--prior", prior, "--steps", 2, "--samples", 1)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "r.json").read_text())["prior"]["name"] == "two steps"


@pytest.mark.usefixtures("small_batches")
def test_a_killed_run_goes_on_to_the_same_weights(small_volume, tmp_path, cli, monkeypatch):
    args = ("--steps", 4, "--checkpoint-every", 2)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert cli("train", "prior", small_volume, "-o", whole, *args).code == 0

    original = denoiser.train

    def killed(*given, **keywords):
        for state in original(*given, **keywords):
            if state.step == 4:
                raise KeyboardInterrupt
            yield state

    with monkeypatch.context() as m:
        m.setattr(denoiser, "train", killed)
        done = cli("train", "prior", small_volume, "-o", parts, *args)
    assert done.code == 130
    assert done.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.checkpoint", "whole.safetensors"]

    done = cli("train", "prior", small_volume, "-o", parts, "--steps", 5)
    assert done.code == 2
    assert "parts.checkpoint belongs to a run with other settings" in done.err

    steps = []

    def watched(*given, **keywords):
        for state in original(*given, **keywords):
            steps.append(state.step)
            yield state

    monkeypatch.setattr(denoiser, "train", watched)
    assert cli("train", "prior", small_volume, "-o", parts, *args).code == 0
    assert steps == [3, 4], "the first two steps came from the checkpoint"
    assert not parts.with_suffix(".checkpoint").exists()
    a, b = load_file(whole), load_file(parts)
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


@pytest.mark.usefixtures("small_batches")
def test_a_damaged_checkpoint(small_volume, tmp_path, refused):
    (tmp_path / "p.checkpoint").write_bytes(b"half")
    message = refused(4, "train", "prior", small_volume, "-o", tmp_path / "p.safetensors", "--steps", 2)
    assert "p.checkpoint" in message
    assert "delete it" in message


@pytest.mark.usefixtures("small_batches")
def test_a_folder_of_volumes_and_a_start_from_another_prior(small_volume, tmp_path, cli):
    scans = tmp_path / "scans" / "deep"
    scans.mkdir(parents=True)
    for name in ("a.nii.gz", "b.nii.gz"):
        (scans / name).write_bytes(small_volume.read_bytes())
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    assert cli("train", "prior", tmp_path / "scans", "-o", first, "--steps", 1).code == 0
    assert cli("train", "prior", tmp_path / "scans", "-o", second, "--steps", 1, "--start", first).code == 0
    card = checkpoints.read_card(second)
    assert [s["file"] for s in card.scans] == ["a.nii.gz", "b.nii.gz"]
    assert len(card.training["start_sha256"]) == 64


def test_settings_out_of_range(small_volume, tmp_path, refused):
    args = ("train", "prior", small_volume, "-o", tmp_path / "p.safetensors")
    message = refused(2, *args, "--learning-rate", -1)
    assert "DenoiserTraining.learning_rate: Input should be greater than 0, got -1" in message
    message = refused(5, *args, "--start", tmp_path / "none.safetensors")
    assert "no prior at " in message
