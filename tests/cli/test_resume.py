"""A run that was killed or interrupted goes on to the same bits; Ctrl-C leaves the estimate so far."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import torch

LONG = ("--steps", 80, "--samples", 2, "--save-samples", "--checkpoint-minutes", 0)
CASES = {
    "slices": ("--solver", "diffpir"),
    "volume": ("--solver", "diffpir", "--planes", "2,0", "--steps", 30),
    "moments": ("--solver", "reddiff", "--samples", 1),
}


def stopped(measured, output, args, how):
    """The exit code of a run that gets a signal once its tenth step is kept."""
    command = [sys.executable, "-m", "invdiff_cli", "reconstruct", measured, "-o", output, *LONG, *args]
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    run = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, env=env, preexec_fn=heard)
    state = output.with_suffix(".checkpoint") / "iterate.safetensors"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and run.poll() is None and not (state.exists() and step(state) >= 9):
        time.sleep(0.02)
    run.send_signal(how)
    return run.wait(60), run.stderr.read()


def heard():
    """Ctrl-C reaches the run, also where it does not reach the tests: in the background it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def step(path):
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(header["__metadata__"]["facts"])["step"]


def outputs(folder, stem):
    return {p.name.removeprefix(stem): p.read_bytes() for p in folder.glob(f"{stem}*.nii")}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_goes_on_to_the_same_bits(case, measured, tmp_path, cli):
    args = CASES[case]
    code, _ = stopped(measured, tmp_path / "parts.nii", args, signal.SIGKILL)
    assert code == -signal.SIGKILL, "the run was over before it could be killed"
    other = cli("reconstruct", measured, "-o", tmp_path / "parts.nii", *LONG, *args, "--seed", 5)
    assert other.code == 2
    assert "parts.checkpoint is the checkpoint of another run: seeds was [0" in other.err
    again = cli("reconstruct", measured, "-o", tmp_path / "parts.nii", *LONG, *args)
    assert again.code == 0, again.err
    assert "parts.checkpoint holds " in again.err
    assert cli("reconstruct", measured, "-o", tmp_path / "whole.nii", *LONG, *args).code == 0
    assert outputs(tmp_path, "parts") == outputs(tmp_path, "whole")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".partial") or p.suffix == ".checkpoint"]


def test_ctrl_c_leaves_the_estimate_so_far_and_the_run_goes_on(measured, tmp_path, cli):
    code, told = stopped(measured, tmp_path / "parts.nii", CASES["slices"], signal.SIGINT)
    assert code == 130
    assert "parts.checkpoint/parts.nii is the estimate so far, and the same command goes on" in told
    assert not (tmp_path / "parts.nii").exists()
    estimate = nibabel.load(tmp_path / "parts.checkpoint" / "parts.nii")
    data = estimate.get_fdata()
    assert np.isfinite(data).all()
    assert data.max() > 0
    done = cli("reconstruct", measured, "-o", tmp_path / "parts.nii", *LONG, *CASES["slices"])
    assert done.code == 0, done.err
    whole = nibabel.load(tmp_path / "parts.nii")
    assert np.array_equal(estimate.affine, whole.affine)
    assert estimate.shape == whole.shape
    assert not (tmp_path / "parts.checkpoint").exists()
