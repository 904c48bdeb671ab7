"""A write that fails leaves what was there, byte for byte, and nothing beside it."""

import errno
import gzip
import resource
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from invdiff import volumes
from invdiff.files import write_atomic
from invdiff_cli import runs


@contextmanager
def file_size_limit():
    """No file may grow beyond 4 KiB: the operating system refuses in the middle of a write, as a full disk does.

    Held around one command only, since it also holds for the file that the tests' own output may go to, and with
    no bytecode written: a module first imported here would leave a truncated .pyc behind.
    """
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = bytecode


@pytest.fixture
def disk_full(monkeypatch):
    """Every gzip stream meets a full disk."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", write)


OLD = b"the old file"


def outputs(folder, *names):
    for name in names:
        (folder / name).write_bytes(OLD)


def test_simulate_in_the_middle_of_a_write(small_volume, tmp_path, refused):
    outputs(tmp_path, "y.h5")
    with file_size_limit():
        message = refused(4, "simulate", "mri", small_volume, "-o", tmp_path / "y.h5", "--force")
    assert f"cannot write {tmp_path / 'y.h5'}: " in message
    with file_size_limit():
        message = refused(4, "simulate", "mri", small_volume, "-o", tmp_path / "new.h5")
    assert f"cannot write {tmp_path / 'new.h5'}: " in message


def test_simulate_on_a_full_disk(small_volume, tmp_path, refused, monkeypatch):
    outputs(tmp_path, "y.h5")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("h5py.File", full)
    message = refused(4, "simulate", "mri", small_volume, "-o", tmp_path / "y.h5", "--force")
    assert message.endswith("no space left on the device; free some or choose another folder")


@pytest.mark.parametrize("name", ["r.nii", "r.nii.gz"])
def test_reconstruct_in_the_middle_of_a_write(name, y, tmp_path, refused):
    std = name.replace("r.", "r_std.")
    outputs(tmp_path, name, std, "r.json", "r.run.yaml")
    with file_size_limit():
        message = refused(4, "reconstruct", y, "-o", tmp_path / name, "--steps", 1, "--samples", 2, "--force")
    assert f"cannot write {tmp_path / 'r.checkpoint'}" in message
    assert "File too large" in message


@pytest.mark.usefixtures("disk_full")
def test_reconstruct_on_a_full_disk(y, tmp_path, refused):
    outputs(tmp_path, "r.nii.gz")
    how = ("reconstruct", y, "-o", tmp_path / "r.nii.gz", "--solver", "cg", "--force")
    message = refused(4, *how, kept="r.checkpoint")
    assert message.startswith(f"invdiff: FileError: cannot write {tmp_path / 'r.nii.gz'}: no space left on the device")


def test_all_outputs_or_none(y, tmp_path, refused, monkeypatch):
    """The disk is full when the spread is written, after the mean."""
    outputs(tmp_path, "r.nii", "r_std.nii", "r.json", "r.run.yaml")
    save = volumes.save

    def full(path, volume, **kwargs):
        if Path(path).name == "r_std.nii":
            raise volumes.nifti.FileError(f"cannot write {path}: no space left on the device")
        save(path, volume, **kwargs)

    monkeypatch.setattr(volumes, "save", full)
    how = ("reconstruct", y, "-o", tmp_path / "r.nii", "--steps", 1, "--samples", 2, "--force")
    message = refused(4, *how, kept="r.checkpoint")
    assert f"cannot write {tmp_path / 'r_std.nii'}: no space left" in message


def test_a_record_that_cannot_be_written(y, tmp_path, refused, monkeypatch, cli):
    """What was computed is not lost: with room on the disk the same command writes it without a step."""
    outputs(tmp_path, "r.nii")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    how = ("reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cg", "--force")
    with monkeypatch.context() as m:
        m.setattr(runs, "write_text", lambda path, text: write_atomic(path, full))
        message = refused(4, *how, kept="r.checkpoint")
    assert "no space left on the device" in message
    again = cli(*how)
    assert again.code == 0
    assert f"{tmp_path / 'r.checkpoint'} holds 1 step of a run" in again.err
    assert not (tmp_path / "r.checkpoint").exists()


def test_outputs_are_readable_as_umask_says(y, tmp_path, cli):
    assert cli("reconstruct", y, "-o", tmp_path / "r.nii", "--steps", 1, "--samples", 2).code == 0
    (tmp_path / "plain").write_text("")
    for name in ("r.nii", "r_std.nii", "r.json", "r.run.yaml"):
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
