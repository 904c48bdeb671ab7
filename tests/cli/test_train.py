"""`invdiff train prior`: a card that loads, a killed run that goes on to the same weights, and what is refused."""

import errno
import json
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
from safetensors.torch import load_file

from invdiff.priors import checkpoints

TINY = ("--set", "width=8", "--set", "batch=4", "--set", "crop=16")


def test_a_trained_prior_has_a_card_and_a_picture_and_reconstructs(small_volume, tmp_path, cli, measured):
    prior = tmp_path / "mine.safetensors"
    args = ("--steps", 2, "--channels", 2, "--name", "two steps", "--licence", "CC0")
    done = cli("train", "prior", small_volume, "-o", prior, *args, *TINY)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.png", "mine.safetensors"]
    card = checkpoints.verify(prior)
    assert (card.name, card.licence, card.training["steps"], card.training["seed"]) == ("two steps", "CC0", 2, 0)
    assert (card.architecture, card.channels, card.planes) == ("demodulated", 2, "all")
    assert card.scans[0]["file"] == "small.nii.gz"
    assert len(card.scans[0]["sha256"]) == 64
    assert set(card.training["validation"]) == {"0.02", "0.05", "0.1", "0.2", "0.5", "1"}
    assert 0 < card.std < 1
    recon = tmp_path / "r.nii"
    done = cli("reconstruct", measured, "-o", recon, "--prior", prior, "--steps", 2, "--samples", 1)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "r.json").read_text())["prior"]["name"] == "two steps"


def test_a_killed_run_goes_on_to_the_same_weights(small_volume, tmp_path, cli):
    """kill -9 between two checkpoints; the run is started again with the same line."""
    args = ("--steps", 40, "--checkpoint-every", 2, *TINY)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    done = cli("train", "prior", small_volume, "-o", whole, *args)
    assert done.code == 0
    assert done.err.splitlines()[0].startswith("step 2/40, loss ")
    assert "error left: " in done.err

    command = [sys.executable, "-m", "invdiff_cli", "train", "prior", small_volume, "-o", parts, *args]
    victim = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
    checkpoint = parts.with_suffix(".checkpoint")
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    for leftover in tmp_path.glob(
        ".partial-*"
    ):  # a checkpoint that was being written is lost, the one before it is not
        leftover.unlink()
    state, _, _ = denoiser_checkpoint(checkpoint)
    assert 0 < state.step < 40

    done = cli("train", "prior", small_volume, "-o", parts, "--steps", 41, *args[2:])
    assert done.code == 2
    assert "parts.checkpoint belongs to a run with other settings" in done.err
    done = cli("train", "prior", small_volume, "-o", parts, *args, "--holdout", 0.3)
    assert done.code == 2
    assert "parts.checkpoint belongs to a run on other data" in done.err

    assert cli("train", "prior", small_volume, "-o", parts, *args).code == 0
    assert not checkpoint.exists()
    a, b = load_file(whole), load_file(parts)
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


def denoiser_checkpoint(path):
    from invdiff.training import checkpoints as training
    from invdiff.training.denoiser import DenoiserTraining

    return training.load(path, DenoiserTraining)


def test_the_seed_decides(small_volume, tmp_path, cli):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        args = ("-o", tmp_path / f"{name}.safetensors", "--steps", 2, "--seed", seed, *TINY)
        assert cli("train", "prior", small_volume, *args).code == 0
    a, b, c = (load_file(tmp_path / f"{name}.safetensors") for name in "abc")
    assert all(a[k].equal(b[k]) for k in a)
    assert not all(a[k].equal(c[k]) for k in a)


def test_a_full_disk_keeps_the_last_checkpoint(small_volume, tmp_path, cli, monkeypatch):
    prior = tmp_path / "p.safetensors"
    args = ("train", "prior", small_volume, "-o", prior, "--steps", 6, "--checkpoint-every", 2, *TINY)
    from invdiff.training import checkpoints

    save_file = checkpoints.save_file

    def full(tensors, path, metadata):
        if json.loads(metadata.get("training", "{}")).get("step") == 4:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save_file(tensors, path, metadata)

    with monkeypatch.context() as m:
        m.setattr(checkpoints, "save_file", full)
        done = cli(*args)
    assert done.code == 4
    assert done.err.splitlines()[-1].endswith("no space left on the device; free some or choose another folder")
    assert [p.name for p in tmp_path.iterdir()] == ["p.checkpoint"]
    assert denoiser_checkpoint(tmp_path / "p.checkpoint")[0].step == 2
    assert cli(*args).code == 0


def test_a_damaged_checkpoint(small_volume, tmp_path, refused):
    (tmp_path / "p.checkpoint").write_bytes(b"half")
    message = refused(4, "train", "prior", small_volume, "-o", tmp_path / "p.safetensors", "--steps", 2, *TINY)
    assert "p.checkpoint is no readable checkpoint; delete it to begin again" in message


def test_a_folder_of_volumes_and_a_start_from_another_prior(small_volume, tmp_path, cli):
    scans = tmp_path / "scans" / "deep"
    scans.mkdir(parents=True)
    for name in ("a.nii.gz", "b.nii.gz"):
        (scans / name).write_bytes(small_volume.read_bytes())
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    args = ("--steps", 1, "--planes", 2, "--window", 0, 500, *TINY)
    assert cli("train", "prior", tmp_path / "scans", "-o", first, *args).code == 0
    assert cli("train", "prior", tmp_path / "scans", "-o", second, *args, "--start", first).code == 0
    card = checkpoints.read_card(second)
    assert [s["file"] for s in card.scans] == ["a.nii.gz", "b.nii.gz"]
    assert (card.planes, card.units["window"]) == ("2", [0, 500])
    assert len(card.training["start_sha256"]) == 64
    done = cli(
        "train", "prior", tmp_path / "scans", "-o", tmp_path / "3.safetensors", "--channels", 2, "--start", first
    )
    assert done.code == 2
    assert "has 1 channel(s), this run 2; use another start" in done.err


def test_phantoms_need_no_volume(tmp_path, cli):
    prior = tmp_path / "p.safetensors"
    assert cli("train", "prior", "ellipses", "-o", prior, "--steps", 1, *TINY).code == 0
    assert checkpoints.read_card(prior).scans == []


def test_real_and_imaginary_frames(small_volume, tmp_path, cli, refused):
    image = nibabel.load(small_volume)
    pair = np.stack([image.get_fdata(), -0.3 * image.get_fdata()], axis=-1).astype(np.float32)
    (tmp_path / "scans").mkdir()
    nibabel.save(nibabel.Nifti1Image(pair, image.affine), tmp_path / "scans" / "complex.nii")
    args = ("--channels", 2, "--phase", "frames", "--steps", 1, *TINY)
    assert cli("train", "prior", tmp_path / "scans", "-o", tmp_path / "p.safetensors", *args).code == 0
    (tmp_path / "scans" / "plain.nii.gz").write_bytes(small_volume.read_bytes())
    message = refused(4, "train", "prior", tmp_path / "scans", "-o", tmp_path / "q.safetensors", *args)
    assert "plain.nii.gz has 1 frame(s), not a real and an imaginary one like the others" in message


def test_what_is_refused(small_volume, tmp_path, refused):
    args = ("train", "prior", small_volume, "-o", tmp_path / "p.safetensors")
    message = refused(2, *args, "--set", "learning_rate=-1")
    assert "DenoiserTraining.learning_rate: Input should be greater than 0, got -1" in message
    assert "no setting 'lr'" in refused(2, *args, "--set", "lr=1")
    assert "no prior at " in refused(5, *args, "--start", tmp_path / "none.safetensors", *TINY)
    (tmp_path / "empty").mkdir()
    message = refused(4, "train", "prior", tmp_path / "empty", "-o", tmp_path / "p.safetensors")
    assert "no .nii or .nii.gz volumes in " in message
    message = refused(4, *args, "--planes", 0, *TINY)
    assert "no plane of these volumes has 16 x 16 voxels of nearly square sides" in message
